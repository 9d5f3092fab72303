/* The least that a program between two servers can do: reads pgoutput, sends each source transaction as prepared
 * statements and one Sync, its place committed with it through a replication origin, and waits for no answer before the next.
 * No ownership, no guards, no netting, no reconnects, and nothing that voids what follows a refused one: what W5 costs anybody
 * who is not inside the target server.
 *
 *   relay SOURCE TARGET SLOT PUBLICATION
 */
#include <endian.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COLUMNS = 32, RELATIONS = 64 };

typedef struct {
  uint32_t oid;
  char name[256], column[COLUMNS][64];
  int count, isKey[COLUMNS];
  Oid type[COLUMNS];
  int hasInsert, hasUpdate;
} Relation;

typedef struct {
  const char *value[COLUMNS];
  int length[COLUMNS];
} Row;

static Relation relations[RELATIONS];
static int relationCount;
static PGconn *source, *target;
static const int binary[COLUMNS] = {[0 ... COLUMNS - 1] = 1};

static uint16_t u16(const char *at) { uint16_t v; memcpy(&v, at, 2); return be16toh(v); }
static uint32_t u32(const char *at) { uint32_t v; memcpy(&v, at, 4); return be32toh(v); }
static uint64_t u64(const char *at) { uint64_t v; memcpy(&v, at, 8); return be64toh(v); }

static void fail(const char *what, PGconn *connection) {
  fprintf(stderr, "relay: %s: %s\n", what, PQerrorMessage(connection));
  exit(1);
}

static void wait_for(PGconn *connection, int milliseconds) {
  struct pollfd wanted = {PQsocket(connection), POLLIN, 0};
  poll(&wanted, 1, milliseconds);
  if (!PQconsumeInput(connection)) fail("reading", connection);
}

static Relation *relation(uint32_t oid) {
  for (int i = 0; i < relationCount; i++)
    if (relations[i].oid == oid) return &relations[i];
  if (relationCount == RELATIONS) fail("too many tables", source);
  relations[relationCount].oid = oid;
  return &relations[relationCount++];
}

static void describe(const char *at) {
  Relation *r = relation(u32(at));
  at += 4 + strlen(at + 4) + 1; /* the schema: public, on the path */
  snprintf(r->name, sizeof r->name, "%s", at);
  at += strlen(at) + 2;
  r->count = u16(at);
  at += 2;
  if (r->count > COLUMNS) fail("too many columns", source);
  for (int i = 0; i < r->count; i++) {
    r->isKey[i] = *at & 1;
    snprintf(r->column[i], sizeof r->column[i], "%s", at + 1);
    at += 1 + strlen(at + 1) + 1;
    r->type[i] = u32(at);
    at += 8;
  }
}

static const char *row(const char *at, Row *into) {
  int count = u16(at);
  at += 2;
  for (int i = 0; i < count; i++) {
    char kind = *at++;
    into->value[i] = NULL;
    into->length[i] = 0;
    if (kind == 'u') fail("an unchanged TOAST value", source);
    if (kind == 'n') continue;
    into->length[i] = u32(at);
    into->value[i] = at += 4;
    at += into->length[i];
  }
  return at;
}

static void prepare(Relation *r, int isUpdate, const char *name) {
  char sql[8192], *end = sql;
  end += sprintf(end, isUpdate ? "UPDATE %s SET " : "INSERT INTO %s VALUES (", r->name);
  for (int i = 0; i < r->count; i++) {
    if (i) end += sprintf(end, ", ");
    if (isUpdate) end += sprintf(end, "\"%s\" = ", r->column[i]);
    end += sprintf(end, "$%d", i + 1);
  }
  end += sprintf(end, isUpdate ? " WHERE true" : ")");
  for (int i = 0; isUpdate && i < r->count; i++)
    if (r->isKey[i]) end += sprintf(end, " AND \"%s\" = $%d", r->column[i], i + 1);
  if (!PQsendPrepare(target, name, sql, r->count, r->type)) fail(name, target);
}

/* An insert, or an update that keeps its key. */
static void apply(const char *at, int isUpdate) {
  Relation *r = relation(u32(at));
  int *isPrepared = isUpdate ? &r->hasUpdate : &r->hasInsert;
  char name[32];
  Row new;
  sprintf(name, "%c%u", isUpdate ? 'u' : 'i', r->oid);
  if (!*isPrepared) prepare(r, isUpdate, name);
  *isPrepared = 1;
  if (at[4] != 'N') fail("an update that changes its key", source);
  row(at + 5, &new);
  if (!PQsendQueryPrepared(target, name, r->count, new.value, new.length, binary, 1)) fail(name, target);
}

/* Syncs that are not answered. */
static int pending;

/* Takes the answers that are there. */
static void take(void) {
  while (pending && !PQisBusy(target)) {
    PGresult *result = PQgetResult(target);
    if (!result) continue; /* between two statements */
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_FATAL_ERROR) {
      fprintf(stderr, "relay: applying: %s", PQresultErrorMessage(result));
      exit(1);
    }
    PQclear(result);
    if (status == PGRES_PIPELINE_SYNC) pending--;
  }
}

static void commit(const char *place, const char *time) {
  const char *values[] = {place, time};
  const int lengths[] = {8, 8};
  if (!PQsendQueryPrepared(target, "place", 2, values, lengths, binary, 1) || !PQpipelineSync(target)) fail("sending", target);
  pending++;
  for (int left; (left = PQflush(target));) {
    if (left < 0) fail("sending", target);
    wait_for(target, 1);
  }
}

static void wait_for_both(int milliseconds) {
  struct pollfd wanted[2] = {{PQsocket(source), POLLIN, 0}, {pending ? PQsocket(target) : -1, POLLIN, 0}};
  poll(wanted, 2, milliseconds);
  if (wanted[1].revents && !PQconsumeInput(target)) fail("reading", target);
  take();
  if (wanted[0].revents && !PQconsumeInput(source)) fail("reading", source);
}

static void tell(uint64_t place) {
  char status[34] = {'r'}; /* received; nothing is said to be on disk, for nobody has asked the target */
  place = htobe64(place);
  memcpy(status + 1, &place, sizeof place);
  if (PQputCopyData(source, status, sizeof status) != 1 || PQflush(source)) fail("telling", source);
}

static void require(PGresult *result, ExecStatusType wanted, PGconn *connection) {
  if (PQresultStatus(result) != wanted) fail("beginning", connection);
  PQclear(result);
}

int main(int count, char **arguments) {
  char text[2048];
  if (count != 5) return fputs("usage: relay SOURCE TARGET SLOT PUBLICATION\n", stderr), 2;
  snprintf(text, sizeof text, "%s replication=database", arguments[1]);
  source = PQconnectdb(text);
  target = PQconnectdb(arguments[2]);
  require(PQexec(target, "SET session_replication_role = replica; SET synchronous_commit = off;"
                         "SET plan_cache_mode = force_generic_plan;"
                         "SELECT pg_replication_origin_create('relay'), pg_replication_origin_session_setup('relay')"),
          PGRES_TUPLES_OK, target);
  require(PQprepare(target, "place", "SELECT pg_replication_origin_xact_setup($1, $2)", 2, (Oid[]){3220, 1184}),
          PGRES_COMMAND_OK, target);
  if (!PQenterPipelineMode(target) || PQsetnonblocking(target, 1)) fail("pipelining", target);
  snprintf(text, sizeof text, "START_REPLICATION SLOT \"%s\" LOGICAL 0/0 (proto_version '1', binary 'true', "
           "publication_names '\"%s\"')", arguments[3], arguments[4]);
  require(PQexec(source, text), PGRES_COPY_BOTH, source);

  uint64_t place = 0;
  for (time_t told = 0, now;;) {
    char *message;
    int length = PQgetCopyData(source, &message, 1);
    if (length < 0) fail("the stream ended", source);
    if (length == 0) {
      wait_for_both(1000);
      if ((now = time(NULL)) != told) tell(place);
      told = now;
      continue;
    }
    const char *body = message + 25;
    if (message[0] == 'k') {
      if (message[17]) told = 0;
    } else if (body[0] == 'R') {
      describe(body + 1);
    } else if (body[0] == 'I' || body[0] == 'U') {
      apply(body + 1, body[0] == 'U');
    } else if (body[0] == 'C') {
      place = u64(body + 10);
      commit(body + 10, body + 18);
    }
    PQfreemem(message);
  }
}
