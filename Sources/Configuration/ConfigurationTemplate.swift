/// The commented `lindero.yaml` that `lindero init` writes: it works as it stands, with `DATABASE_URL` set.
public enum ConfigurationTemplate {
    /// The template with another reference to the database.
    public static func text(reference: String) -> String {
        text.replacing("url: env:DATABASE_URL", with: "url: \(YAMLText.reference(reference))")
    }

    public static let text = """
        # lindero.yaml - who owns every column, and where the data goes.
        # Check it with: lindero check
        version: 1

        # shared:  one database, several services; ownership is enforced and audited, nothing is copied.
        # replica: shared, and every change streams to a second database.
        # split:   two independent databases, kept equal in both directions.
        backend: shared

        # One entry for each service. Names are free. Secrets never stand in this file: use env:NAME, file:PATH,
        # service:NAME (pg_service.conf), or a connection string without a password (~/.pgpass has it).
        databases:
          primary:
            url: env:DATABASE_URL
            # roles: [bot_app]           # the PostgreSQL roles this service logs in with
          # sync:
          #   url: env:SYNC_DATABASE_URL
          #   roles: [sync_app]

        # The database that holds the data today.
        origin: primary

        # unlisted_column: error stops when nobody owns a column; origin gives it to the origin.
        # conflict: what shared columns without a policy do; queue keeps both values for a person.
        defaults: { unlisted_column: error, conflict: queue }

        # What must hold before a cutover. Durations: ms, s, min, h, d. Sizes: kB, MB, GB (or KiB, MiB, GiB).
        gates:
          max_lag: 2s
          max_lag_bytes: 200kB
          verify_age: 24h
          max_clock_offset: 250ms
          cutover_timeout: 30s
          max_retained_wal: 5GB

        replication:
          snapshot: initial              # initial copies first; never streams only
          # slot: existing_slot          # adopt what exists already (with snapshot: never)
          # publication: existing_publication
          ddl: pause                     # pause | follow (adds columns that the source added)
          missing_row: stop              # stop | count: an update or delete whose row is not there
          heartbeat: 1s                  # off: none
          memory_limit: 64MB             # decoded changes that may wait in memory
          group:                         # what may share one transaction on the target when there is a backlog
            # max_bytes: 16MB            # default, and at most: a quarter of memory_limit
            max_changes: 20000           # 1: every source transaction has its own
          streaming: off                 # on: large transactions come while they run, and wait here, not on the source's disk
          # spill_dir: /var/lib/lindero  # where they wait once memory is short (default: /var/tmp/lindero-UID)
          copy:
            jobs: 2                      # connections that copy, and later build indexes, at the same time
            # rate_limit: 50MB           # a second of what COPY sends, all jobs together; dead rows and columns that stay are read besides (default: off)
            chunk_size: 128MiB           # larger tables are copied in pieces, each of them kept after a kill
            index_memory: 256MiB         # maintenance_work_mem for each index built, unless the server's is larger
          omit_foreign_columns: false    # true: a target made by Lindero lacks columns that do not travel
          # sequences: interleave        # split: every other number for each side; or ranges: half of the rest for each

        # How `lindero verify` may load both servers.
        verify:
          jobs: 1                        # stretches compared at the same time; each keeps a core of each server busy
          chunk_rows: 10000              # rows that one statement reads, at most
          # rate_limit: 50MB             # a second of rows in text form, both servers together (default: off)

        # How a service's writers move to the other database, within gates.cutover_timeout each. Without pgbouncer and
        # command a person moves them, and Lindero waits until no session of the service's roles is left.
        cutover:
          fence: none                    # strict: every writer of the old side waits while a service moves
          # pgbouncer:
          #   admin: env:PGBOUNCER_ADMIN_URL       # its admin console: the database pgbouncer
          #   config: /etc/pgbouncer/databases.ini # the file with [databases]; host, port and dbname of the entry change
          #   databases: { sync: hotel_sync }      # the entry that each service connects to
          #   addresses: { sync: db2:5432/hotel }  # how pgbouncer reaches a database, where Lindero takes another way
          # command: [/usr/local/bin/move-service] # gets LINDERO_SERVICE, LINDERO_FROM, LINDERO_TO and LINDERO_STEP

        # Exact names, schema.name, or patterns such as "public.*". An exact name beats a pattern, a later pattern
        # beats an earlier one. Without tables: the origin owns everything. Or let lindero write this part:
        #   lindero init --from-database
        #
        # tables:
        #   Reservas:
        #     match: [bookingId]           # identity across databases (default: the primary key)
        #     insert: sync                 # who makes rows (default: everybody who owns a column)
        #     delete: sync
        #     private: [crmNotes]          # never leaves its owner's database
        #     on_error: stop               # stop | quarantine: a change that the target refuses
        #     columns:
        #       primary: [lastBotInteraction, crmNotes]
        #       sync: "*"                  # every column not named elsewhere
        #       shared:
        #         phone: { policy: last_write }
        #         arrivalDate: { policy: prefer, side: sync }
        #         updatedAt: { policy: max } # last_write | prefer | max | min | delta | queue
        #     # In a split, for rows that the other side makes or deletes:
        #     fill: { crmNotes: "" }       # values of owned columns that are NOT NULL without a default
        #     references: { hotelId: Hotels } # holds Hotels' own key, which is another number on the other side
        #     on_delete: keep              # nullify | delete | keep: when the row it refers to is deleted there

        """
}
