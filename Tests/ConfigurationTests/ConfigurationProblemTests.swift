import Configuration
import ReplicationCore
import Testing

/// One mistake in a file, and what must be said about it.
struct Mistake: Sendable, CustomTestStringConvertible {
    var name: String
    var file: String
    var expected: String

    init(_ name: String, _ file: String, _ expected: String) {
        self.name = name
        self.file = file
        self.expected = expected
    }

    var testDescription: String { name }
}

private let start = "version: 1\ndatabases: { bot: env:BOT, sync: env:SYNC }\norigin: bot\n"

private let splitStart = start + "backend: split\n"

private let mistakes: [Mistake] = [
    Mistake("unknownKey", start + "tabels: {}", #"f:4:1: unknown key "tabels" in the file"#),
    Mistake("unknownKeyNearest", start + "tabels: {}", #"(did you mean "tables"?)"#),
    Mistake("unknownGate", start + "gates: { max_lags: 2s }", #"f:4:10: unknown key "max_lags" in gates"#),
    Mistake("unknownTableKey", start + "tables: { T: { colums: {} } }", #"(did you mean "columns"?)"#),
    Mistake("wrongTypeMapping", start + "gates: 3", "f:4:8: gates must be a mapping"),
    Mistake(
        "wrongTypeList", start + "tables: { T: { match: { a: b } } }",
        "tables.T.match must be a list of names, but is a mapping"),
    Mistake(
        "missingUnit", start + "gates: { max_lag: 200 }",
        "f:4:19: gates.max_lag is \"200\", but must be a duration"),
    Mistake("unknownUnit", start + "gates: { max_lag: 2 seconds }", #"(did you mean "s"?)"#),
    Mistake("sizeUnit", start + "gates: { max_retained_wal: 5gb }", #"(did you mean "GB"?)"#),
    Mistake(
        "sizeForDuration", start + "gates: { max_lag: 5MB }",
        "gates.max_lag is \"5MB\", but must be a duration"),
    Mistake("unknownCutoverKey", start + "cutover: { fences: strict }", #"f:4:12: unknown key "fences" in cutover"#),
    Mistake("unknownCutoverKeyNearest", start + "cutover: { fences: strict }", #"(did you mean "fence"?)"#),
    Mistake(
        "unknownFence", start + "cutover: { fence: strickt }",
        #"f:4:19: cutover.fence is "strickt", but must be one of: none, strict (did you mean "strict"?)"#),
    Mistake("unknownBouncerKey", start + "cutover: { pgbouncer: { adminn: env:A } }", #"(did you mean "admin"?)"#),
    Mistake(
        "bouncerLacks", start + "cutover: { pgbouncer: { admin: env:A } }", "f:4:12: cutover.pgbouncer lacks config and databases"),
    Mistake(
        "bouncerUnknownDatabase",
        start + "cutover: { pgbouncer: { admin: env:A, config: /a, databases: { snyc: hotel } } }",
        #"a key of cutover.pgbouncer.databases is "snyc", which is no database of this file (declared: bot, sync) (did you mean "sync"?)"#),
    Mistake(
        "bouncerEntryShared",
        start + "cutover: { pgbouncer: { admin: env:A, config: /a, databases: { bot: hotel, sync: hotel } } }",
        "bot and sync share the entry \"hotel\", so one could not move alone"),
    Mistake(
        "bouncerEntryName", start + "cutover: { pgbouncer: { admin: env:A, config: /a, databases: { bot: 'a b' } } }",
        "cutover.pgbouncer.databases.bot must be the name of an entry"),
    Mistake(
        "bouncerRelativeFile", start + "cutover: { pgbouncer: { admin: env:A, config: a.ini, databases: { bot: a } } }",
        "must be an absolute path such as /etc/pgbouncer/databases.ini"),
    Mistake(
        "bouncerPassword", start + "cutover: { pgbouncer: { admin: 'postgres://a:b@c/pgbouncer', config: /a, databases: { bot: a } } }",
        "cutover.pgbouncer.admin holds a password"),
    Mistake(
        "bouncerAddress",
        start + "cutover: { pgbouncer: { admin: env:A, config: /a, databases: { bot: a }, addresses: { bot: db } } }",
        "cutover.pgbouncer.addresses.bot must be host:port/database"),
    Mistake("commandIsALine", start + "cutover: { command: move-service --fast }", "f:4:21: cutover.command must be a list"),
    Mistake("commandIsEmpty", start + "cutover: { command: [] }", "cutover.command must be a list"),
    Mistake(
        "commandIsRelative", start + "cutover: { command: [move] }",
        #"cutover.command begins with "move", but must begin with the program's absolute path"#),
    Mistake("unknownVerifyKey", start + "verify: { job: 2 }", #"(did you mean "jobs"?)"#),
    Mistake("verifyRateWithoutUnit", start + "verify: { rate_limit: 5 }", "verify.rate_limit"),
    Mistake("verifyRateTooSmall", start + "verify: { rate_limit: 5kB }", "verify.rate_limit must be at least 100kB a second, or off"),
    Mistake("verifyChunkTooSmall", start + "verify: { chunk_rows: 0 }", "must be a number from 1 to 1000000"),
    Mistake("negative", start + "gates: { max_lag: -1s }", "must be a duration"),
    Mistake("overflow", start + "gates: { max_lag: 99999999999999999999h }", "the number is too large"),
    Mistake("fractionOfSecond", start + "gates: { verify_age: 200ms }", "whole seconds"),
    Mistake(
        "duplicateKey", start + "gates: {}\ndefaults: {}\ngates: {}",
        #"f:6:1: "gates" stands here twice, first in line 4"#),
    Mistake(
        "unknownOrigin", "version: 1\ndatabases: { bot: env:BOT }\norigin: bott",
        #"f:3:9: origin is "bott", which is no database of this file (declared: bot) (did you mean "bot"?)"#),
    Mistake("unknownOwner", start + "tables: { T: { columns: { bto: [a] } } }", #"(did you mean "bot"?)"#),
    Mistake(
        "unknownInsertOwner", start + "tables: { T: { insert: sink } }", #"f:4:24: tables.T.insert is "sink""#
    ),
    Mistake(
        "unknownPolicy", start + "tables: { T: { columns: { shared: { a: { policy: last_wins } } } } }",
        #"(did you mean "last_write"?)"#),
    Mistake(
        "preferWithoutSide", start + "tables: { T: { columns: { shared: { a: { policy: prefer } } } } }",
        "has policy prefer and no side"),
    Mistake(
        "unknownSequences", splitStart + "replication: { sequences: range }",
        #"f:5:27: replication.sequences is "range", but must be one of: interleave, ranges (did you mean "ranges"?)"#),
    Mistake(
        "unknownOnDelete", splitStart + "tables: { T: { references: { a: U }, on_delete: nulify } }",
        #"must be one of: nullify, delete, keep (did you mean "nullify"?)"#),
    Mistake(
        "onDeleteAlone", splitStart + "tables: { T: { on_delete: keep } }",
        "f:5:16: tables.T.on_delete says what becomes of references, and there are none"),
    Mistake(
        "fillNothing", splitStart + "tables: { T: { fill: { a: } } }",
        "tables.T.fill.a must be a value in its text form, but is nothing"),
    Mistake(
        "fillList", splitStart + "tables: { T: { fill: [a] } }", "tables.T.fill must be a mapping, but is a list"),
    Mistake(
        "referenceToPattern", splitStart + "tables: { T: { references: { a: public.* } } }",
        #"f:5:33: tables.T.references.a must be one table, as Name or schema.Name, but is "public.*""#),
    Mistake(
        "sideWithoutPrefer",
        start + "tables: { T: { columns: { shared: { a: { policy: max, side: bot } } } } }",
        "goes with policy prefer only"),
    Mistake(
        "unknownSide", start + "tables: { T: { columns: { shared: { a: { policy: prefer, side: bod } } } } }",
        #"side is "bod", which is no database"#),
    Mistake(
        "privateNotOwned", start + "tables: { T: { private: [nota], columns: { bot: [notes] } } }",
        #"f:4:26: tables.T.private: "nota" has no owner"#),
    Mistake(
        "privateShared", start + "tables: { T: { private: [a], columns: { bot: [b], shared: [a] } } }",
        "a private column has one owner"),
    Mistake(
        "privateMatch", start + "tables: { T: { match: a, private: [a], columns: { bot: [a] } } }",
        "the match key always travels"),
    Mistake(
        "twoOwners", start + "tables: { T: { columns: { bot: [a], sync: [b, a] } } }",
        #"f:4:47: column "a" stands under both bot and sync"#),
    Mistake(
        "ownedAndShared", start + "tables: { T: { columns: { bot: [a], shared: [a] } } }",
        "stands under both bot and shared"),
    Mistake(
        "twoStars", start + "tables: { T: { columns: { bot: \"*\", sync: \"*\" } } }",
        "(every other column) stands under both"),
    Mistake("columnTwice", start + "tables: { T: { columns: { bot: [a, a] } } }", "names \"a\" twice"),
    Mistake("emptyList", start + "tables: { T: { insert: [] } }", "but is an empty list"),
    Mistake(
        "tableTwice", start + "tables: { T: {columns: {bot: a}}, public.T: {columns: {bot: a}} }",
        "stands here twice, first as \"T\""),
    Mistake("tableName", start + "tables: { a.b.c: {} }", "is no table name"),
    Mistake(
        "version", "version: 2\ndatabases: { bot: env:BOT }",
        "f:1:10: version is \"2\", but this Lindero reads version 1"),
    Mistake("versionMissing", "databases: { bot: env:BOT }", "version is missing"),
    Mistake(
        "backend", start + "backend: replicas",
        #"f:4:10: backend is "replicas", but must be one of: shared, replica, split (did you mean "replica"?)"#
    ),
    Mistake(
        "replicaAlone", "version: 1\nbackend: replica\ndatabases: { bot: env:BOT }\norigin: bot",
        "f:2:10: backend replica needs two databases"),
    Mistake(
        "splitAlone", "version: 1\nbackend: split\ndatabases: { bot: env:BOT }\norigin: bot",
        "backend split needs two databases"),
    Mistake(
        "originMissing", "version: 1\nbackend: split\ndatabases: { bot: env:BOT, sync: env:S }",
        "origin is missing"),
    Mistake("databasesMissing", "version: 1", "databases is missing"),
    Mistake("urlMissing", "version: 1\ndatabases: { bot: { roles: [a] } }", "databases.bot has no url"),
    Mistake("databaseNamedShared", "version: 1\ndatabases: { shared: env:BOT }", "can't be named \"shared\""),
    Mistake(
        "sameRole",
        "version: 1\ndatabases: { a: {url: env:A, roles: [r]}, b: {url: env:B, roles: [r]} }\norigin: a",
        "role \"r\" stands under both a and b"),
    Mistake("conflictPrefer", start + "defaults: { conflict: prefer }", "can't be prefer"),
    Mistake("slotWithSnapshot", start + "replication: { slot: s, publication: p }", "add snapshot: never"),
    Mistake(
        "slotWithoutPublication", start + "replication: { slot: s, snapshot: never }",
        "needs replication.publication"),
    Mistake(
        "slotName", start + "replication: { slot: My-Slot, publication: p, snapshot: never }",
        "a slot's name is at most 63 of a-z"),
    Mistake("flag", start + "replication: { omit_foreign_columns: yes }", "must be true or false"),
    Mistake("jobs", start + "replication: { copy: { jobs: 0 } }", "must be a number from 1 to 64"),
    Mistake(
        "rateWithoutUnit", start + "replication: { copy: { rate_limit: 50 } }", "replication.copy.rate_limit"),
    Mistake("rateTooLow", start + "replication: { copy: { rate_limit: 5kB } }", "must be at least 100kB a second, or off"),
    Mistake("streamingWord", start + "replication: { streaming: onn }", #"must be one of: off, on (did you mean "on"?)"#),
    Mistake(
        "twoPhaseShared", start + "replication: { two_phase: true }",
        "f:4:16: replication.two_phase goes with backend replica, but the backend is shared"),
    Mistake("spillFolder", start + "replication: { spill_dir: spill }", "f:4:27: replication.spill_dir is \"spill\", but must be an absolute path"),
    Mistake("copyKey", start + "replication: { copy: { ratelimit: 5MB } }", #"(did you mean "rate_limit"?)"#),
    Mistake("chunkSize", start + "replication: { copy: { chunk_size: 5kB } }", "must be at least 1MB"),
    Mistake("groupKey", start + "replication: { group: { max_rows: 5 } }", "replication.group, which takes: max_bytes, max_changes"),
    Mistake("groupChanges", start + "replication: { group: { max_changes: 0 } }", "must be a number from 1 to 10000000"),
    Mistake("groupTooSmall", start + "replication: { group: { max_bytes: 1kB } }", "must be at least 64kB"),
    Mistake("applySessions", start + "replication: { apply_sessions: 3 }", "must be a number from 1 to 2"),
    Mistake(
        "groupPastMemory", start + "replication: { group: { max_bytes: 3MB }, memory_limit: 8MB }",
        "f:4:23: replication.group.max_bytes must be at most a quarter of memory_limit, here 2000 kB"),
    Mistake("nullName", start + "origin2: x", #"(did you mean "origin"?)"#),
    Mistake(
        "nothing", start + "gates: { max_lag: }",
        "gates.max_lag must be a duration such as 200ms, 2s or 24h, but is nothing"),
    Mistake("empty", "# nothing here\n", "the file is empty; lindero init --force writes one"),
    Mistake("list", "- a\n- b", "the file must be a mapping"),
]

private let malformed: [Mistake] = [
    Mistake("tab", "version: 1\ndatabases:\n\tbot: env:X", "f:3:1: a tab indents this line"),
    Mistake(
        "openQuote", "version: 1\norigin: \"bot\ndatabases: x",
        "a quote that was opened in line 2 is never closed"),
    Mistake("openBrace", "version: 1\ngates: { max_lag: 2s\norigin: bot", "f:3:7: "),
    Mistake("indentation", "version: 1\n  backend: shared", "f:2:10: "),
    Mistake("noColon", "version: 1\nbackend\norigin: a", "a key without its \":\""),
    Mistake("secondDocument", "version: 1\n---\nversion: 1", "a second document begins here"),
    Mistake("unknownAlias", "version: *one", "f:1:10: this *alias has no &anchor"),
    Mistake("controlCharacter", "version: 1\nori\u{01}gin: a", "a character that YAML does not allow"),
]

@Suite struct ConfigurationProblemTests {
    @Test(arguments: mistakes + malformed)
    func mistakeNamesPlaceAndRemedy(_ mistake: Mistake) throws {
        let error = try #require(throws: ConfigurationError.self) {
            try ConfigurationFile.parse(mistake.file, path: "f")
        }
        #expect(error.description.contains(mistake.expected), "\(error)")
    }

    @Test func allProblemsAreReportedInTheFilesOrder() throws {
        let file = """
            version: 3
            backend: splitt
            databases: { bot: { url: env:BOT, rolls: [x] } }
            origin: sync
            gates: { max_lag: soon, max_lag_bytes: 3 }
            tables:
              T: { insert: nobody, columns: { bot: [a, a] } }
            """
        let error = try #require(throws: ConfigurationError.self) {
            try ConfigurationFile.parse(file, path: "f")
        }
        #expect(error.problems.map(\.line) == [1, 2, 3, 4, 5, 5, 7, 7])
        #expect(error.problems.allSatisfy { $0.column != nil })
    }

    @Test func everyBytePrefixOfTheDesignFileParsesOrGivesAnError() {
        let bytes = Array(hotelFile.utf8)
        for length in stride(from: 0, to: bytes.count, by: 7) {
            do {
                _ = try ConfigurationFile.parse(String(decoding: bytes[..<length], as: UTF8.self), path: "f")
            } catch {
                #expect(!error.problems.isEmpty)
            }
        }
    }
}
