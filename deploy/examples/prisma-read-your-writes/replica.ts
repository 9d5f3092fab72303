// Read your own writes from a replica, with Prisma: write on the primary, wait until the replica shows it, read there.
//
//   DATABASE_URL   the primary          REPLICA_URL   the replica
//   LINDERO_URL    the worker's status server, http://127.0.0.1:8432 unless set (`lindero run` serves it)
//
// Needs Node 18 or newer (fetch) and @prisma/client 4 to 6; there is nothing else to install. (Prisma 7 takes an `adapter` in place of
// `datasources`; the rest stays.)
import { PrismaClient } from "@prisma/client";

export const primary = new PrismaClient({ datasources: { db: { url: process.env.DATABASE_URL } } });
export const replica = new PrismaClient({ datasources: { db: { url: process.env.REPLICA_URL } } });

const lindero = process.env.LINDERO_URL ?? "http://127.0.0.1:8432";
const token = process.env.LINDERO_HTTP_TOKEN;

/// A position that the replica passes no earlier than what this process has committed. Ask after the commit: the insert
/// position is behind it, even when the commit did not wait for the disk (the written and flushed ones need not be).
export async function position(): Promise<string> {
  const [row] = await primary.$queryRaw<{ lsn: string }[]>`SELECT pg_current_wal_insert_lsn()::text AS lsn`;
  return row.lsn;
}

/// Whether the replica shows that position within the time. Throws when Lindero does not answer.
export async function shown(lsn: string, timeoutMs = 2_000): Promise<boolean> {
  const query = new URLSearchParams({ lsn, timeout: `${timeoutMs}ms` });
  const answer = await fetch(`${lindero}/await?${query}`, {
    headers: token ? { authorization: `Bearer ${token}` } : {},
    signal: AbortSignal.timeout(timeoutMs + 1_000),
  });
  if (answer.status === 200) return true;
  if (answer.status === 504) return false;
  throw new Error(`lindero /await: ${answer.status} ${await answer.text()}`);
}

/// The client to read from after a write at `lsn`: the replica once it shows it, else the primary. Never stale.
export async function readerFor(lsn: string): Promise<PrismaClient> {
  try {
    return (await shown(lsn)) ? replica : primary;
  } catch {
    return primary;
  }
}
