import TestSupport

/// Random transactions over tables that have every kind of constraint, on few keys, so that they collide often.
struct RandomTransactions {
    /// `attempt` takes back a statement that a constraint refuses: a rolled-back subtransaction in the stream.
    static let schema = """
        CREATE TABLE guest (id int PRIMARY KEY, code text UNIQUE, note text, visits int);
        ALTER TABLE guest ALTER note SET STORAGE EXTERNAL;
        CREATE TABLE stay (a int, b text, guest int REFERENCES guest DEFERRABLE INITIALLY DEFERRED, amount numeric,
          PRIMARY KEY (a, b));
        CREATE TABLE room (id int PRIMARY KEY, nights int4range, EXCLUDE USING gist (nights WITH &&));
        CREATE TABLE seat (id int PRIMARY KEY, place int, UNIQUE (place) DEFERRABLE INITIALLY DEFERRED);
        CREATE TABLE mark (tag text, value int);
        ALTER TABLE mark REPLICA IDENTITY FULL;
        CREATE TABLE badge (label text NOT NULL, number int, extra text);
        CREATE UNIQUE INDEX badge_label ON badge (label);
        ALTER TABLE badge REPLICA IDENTITY USING INDEX badge_label;
        CREATE TABLE visit (id int, day int, what text, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
        CREATE TABLE visit_0 PARTITION OF visit FOR VALUES IN (0);
        CREATE TABLE visit_1 PARTITION OF visit DEFAULT;
        CREATE TABLE padding (id int PRIMARY KEY, pad text);
        CREATE TABLE plain (id int PRIMARY KEY, t text, n numeric, j jsonb, w timestamptz);
        CREATE FUNCTION attempt(command text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN EXECUTE command; EXCEPTION WHEN integrity_constraint_violation OR exclusion_violation THEN NULL; END $$
        """
    static let tables = ["guest", "stay", "room", "seat", "mark", "badge", "visit", "plain"]
    static let clear =
        "TRUNCATE " + tables.joined(separator: ", ")
        + "; ALTER TABLE guest REPLICA IDENTITY DEFAULT; ALTER TABLE plain REPLICA IDENTITY DEFAULT"
    /// Everything there is, in a form that both sides share.
    static let contents =
        "SELECT "
        + tables.map { table in
            "coalesce((SELECT string_agg('\(table) ' || left(t::text, 60) || md5(t::text), E'\\n' ORDER BY t::text COLLATE \"C\") FROM \(table) t), '')"
        }.joined(separator: " || E'\\n' || ")

    var random: SeededGenerator
    /// Whether transactions are now and then too large for the server's memory.
    let isPadded: Bool

    init(seed: UInt64, isPadded: Bool = false) {
        random = SeededGenerator(seed: seed)
        self.isPadded = isPadded
    }

    /// One transaction as a script; a deferred constraint may refuse it at its end.
    mutating func script() -> String {
        var lines = ["BEGIN"]
        for _ in 0..<(1 + random.below(random.chance(10) ? 30 : 6)) { lines.append(statement()) }
        lines.append(random.chance(5) ? "ROLLBACK" : "COMMIT")
        return lines.joined(separator: ";\n")
    }

    private mutating func statement() -> String {
        if isPadded, random.chance(8) {
            let fill = "INSERT INTO padding SELECT i, repeat('x', 500) FROM generate_series(1, 250) i"
            return random.chance(50)
                ? "SAVEPOINT pad; \(fill); \(attempt()); ROLLBACK TO pad; RELEASE pad"
                : "\(fill); \(attempt()); DELETE FROM padding"
        }
        if random.chance(8) {
            // What a savepoint takes back must leave no trace, even between changes of the same row.
            return "SAVEPOINT s; \(attempt()); \(attempt()); ROLLBACK TO s; RELEASE s"
        }
        if random.chance(4) {
            // Another definition of the table, inside the transaction, and perhaps the first one again.
            return "ALTER TABLE \(random.pick(["guest", "plain"])) REPLICA IDENTITY \(random.pick(["FULL", "DEFAULT"]))"
        }
        return attempt()
    }

    private mutating func attempt() -> String { "SELECT attempt($q$\(change())$q$)" }

    private mutating func change() -> String {
        switch random.below(100) {
        case 0..<30: guest()
        case 30..<42: stay()
        case 42..<50: room()
        case 50..<62: seat()
        case 62..<70: mark()
        case 70..<80: badge()
        case 80..<88: visit()
        case 88..<98: plain()
        default: "TRUNCATE \(random.pick(["stay", "room", "mark", "badge", "guest, stay", "visit", "seat"]))"
        }
    }

    private mutating func key() -> Int { random.below(8) }
    private mutating func code() -> String { random.chance(15) ? "NULL" : "'c\(random.below(6))'" }
    /// Short, or too long to stay in the row.
    private mutating func note() -> String { random.chance(40) ? "repeat('\(random.below(9))', 2500)" : "'n\(random.below(99))'" }

    private mutating func guest() -> String {
        switch random.below(14) {
        case 0..<3: "INSERT INTO guest VALUES (\(key()), \(code()), \(note()), 0)"
        case 3: "UPDATE guest SET visits = visits + 1 WHERE id = \(key())"
        case 4: "UPDATE guest SET code = \(code()) WHERE id = \(key())"
        case 5: "UPDATE guest SET note = \(note()) WHERE id = \(key())"
        case 6: "UPDATE guest SET id = \(key()) WHERE id = \(key())"
        case 7: "DELETE FROM guest WHERE id = \(key())"
        // The same unique value changes hands inside one statement list.
        case 8: "WITH gone AS (DELETE FROM guest WHERE code = 'c1') UPDATE guest SET visits = -1 WHERE id = \(key())"
        // A row touched before takes over a value that another row gives up: only the source's order allows it.
        case 9..<13:
            "UPDATE guest SET visits = 7 WHERE id = 1; UPDATE guest SET code = NULL WHERE code = 'c2'; UPDATE guest SET code = 'c2' WHERE id = \(random.below(3))"
        default: "INSERT INTO guest VALUES (\(key()), \(code()), 'up', 1) ON CONFLICT (id) DO UPDATE SET visits = guest.visits + 10"
        }
    }

    private mutating func stay() -> String {
        switch random.below(5) {
        case 0, 1: "INSERT INTO stay VALUES (\(random.below(4)), 'b\(random.below(3))', \(key()), \(random.below(100)) / 7.0)"
        case 2: "UPDATE stay SET amount = amount + 1.5 WHERE a = \(random.below(4))"
        case 3: "UPDATE stay SET b = 'b\(random.below(4))' WHERE a = \(random.below(4)) AND b = 'b\(random.below(3))'"
        default: "DELETE FROM stay WHERE a = \(random.below(4))"
        }
    }

    private mutating func room() -> String {
        let from = random.below(20)
        return switch random.below(4) {
        case 0, 1: "INSERT INTO room VALUES (\(key()), int4range(\(from), \(from + 1 + random.below(5))))"
        case 2: "UPDATE room SET nights = int4range(\(from), \(from + 2)) WHERE id = \(key())"
        default: "DELETE FROM room WHERE id = \(key())"
        }
    }

    private mutating func seat() -> String {
        switch random.below(6) {
        case 0, 1: "INSERT INTO seat VALUES (\(key()), \(random.below(8)))"
        // Two rows trade places, which only a deferred constraint lets through.
        case 2: "UPDATE seat SET place = CASE place WHEN 1 THEN 2 ELSE 1 END WHERE place IN (1, 2)"
        case 3: "UPDATE seat SET place = place + 1"
        case 4: "UPDATE seat SET id = CASE id WHEN 3 THEN 103 ELSE id - 100 END WHERE id IN (3, 103, 104)"
        default: "DELETE FROM seat WHERE place = \(random.below(8))"
        }
    }

    private mutating func mark() -> String {
        switch random.below(4) {
        // Equal rows: each delete takes one of them, or all.
        case 0, 1: "INSERT INTO mark VALUES ('t\(random.below(2))', \(random.below(2)))"
        case 2: "UPDATE mark SET value = value + 1 WHERE ctid = (SELECT min(ctid) FROM mark)"
        default: "DELETE FROM mark WHERE ctid = (SELECT max(ctid) FROM mark)"
        }
    }

    private mutating func badge() -> String {
        switch random.below(5) {
        case 0, 1: "INSERT INTO badge VALUES ('l\(random.below(6))', \(random.below(9)), \(note()))"
        case 2: "UPDATE badge SET number = number + 1 WHERE label = 'l\(random.below(6))'"
        case 3: "UPDATE badge SET label = 'l\(random.below(6))' WHERE label = 'l\(random.below(6))'"
        default: "DELETE FROM badge WHERE label = 'l\(random.below(6))'"
        }
    }

    private mutating func visit() -> String {
        switch random.below(4) {
        case 0, 1: "INSERT INTO visit VALUES (\(random.below(5)), \(random.below(3)), 'w\(random.below(9))')"
        // A row that moves to another partition is deleted there and inserted here.
        case 2: "UPDATE visit SET day = \(random.below(3)) WHERE id = \(random.below(5))"
        default: "DELETE FROM visit WHERE id = \(random.below(5))"
        }
    }

    private mutating func plain() -> String {
        switch random.below(5) {
        case 0, 1, 2:
            """
            INSERT INTO plain VALUES (\(key()), \(code()), \(random.pick(["NULL", "'NaN'", "1e30", "-0.00", "17.50"])),
              \(random.pick(["NULL", "'{\"a\": [1, null]}'", "'\"x\"'"])), \(random.pick(["NULL", "'infinity'", "'2026-11-24 12:00:00.123456+00'"])))
            ON CONFLICT (id) DO UPDATE SET t = excluded.t, n = excluded.n
            """
        case 3: "UPDATE plain SET j = NULL, w = '0044-03-15 BC' WHERE id = \(key())"
        default: "DELETE FROM plain WHERE id < \(key())"
        }
    }
}
