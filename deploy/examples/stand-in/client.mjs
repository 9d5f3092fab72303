// What deploy/examples.sh puts in the place of @prisma/client, which no machine of the project can install: the few calls that the
// example makes, as SQL by psql to the database that the client was made for.
import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);
const text = (value) => `'${String(value).replaceAll("'", "''")}'`;
const column = (name) => `"${name}"`;

export class PrismaClient {
  constructor({ datasources }) {
    this.url = datasources.db.url;
    this.reservas = {
      update: ({ where, data }) =>
        this.rows(`UPDATE "Reservas" SET ${pairs(data, ", ")} WHERE ${pairs(where, " AND ")} RETURNING *`),
      findUnique: async ({ where }) => (await this.rows(`SELECT * FROM "Reservas" WHERE ${pairs(where, " AND ")}`))[0] ?? null,
    };
  }

  async $queryRaw(strings) { return this.rows(strings.join("")); }

  async rows(sql) {
    const command = `WITH r AS (${sql}) SELECT coalesce(json_agg(r), '[]') FROM r`;
    const { stdout } = await run("psql", ["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", this.url, "-c", command]);
    return JSON.parse(stdout);
  }
}

function pairs(values, between) {
  return Object.entries(values).map(([name, value]) => `${column(name)} = ${text(value)}`).join(between);
}
