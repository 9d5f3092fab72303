/// Something that Lindero made in a database, or that a split left behind there, under a name that can be typed.
public struct Remnant: Sendable, Equatable {
    /// In the order in which several are removed: what gives something back before what it needs for that.
    public enum Kind: String, Sendable, CaseIterable {
        case guarded = "guard"
        case refusal, slot, publication, origin, identity, role, column, schema
    }

    public var database: String
    public var kind: Kind
    public var object: String
    /// What it is.
    public var words: String
    /// Which phase and direction needs it; `nil` for none.
    public var need: String?
    /// Who has it now; `nil` for nobody.
    public var use: String?
    /// What has to be done first, whoever runs.
    public var obstacle: String?
    /// Names of what has to be removed before, by the same command or another.
    public var after: [String] = []
    /// WAL that the server keeps for it.
    public var retainedWALBytes: Int64?
    /// What else it costs to have it.
    public var cost: String?
    /// Exactly what its removal runs.
    public var sql: [String]

    public init(_ database: String, _ kind: Kind, _ object: String, words: String, sql: [String]) {
        (self.database, self.kind, self.object, self.words, self.sql) = (database, kind, object, words, sql)
    }

    /// Such as `bot:slot/lindero_hotel_sync`.
    public var name: String { Self.name(database, kind, object) }

    public static func name(_ database: String, _ kind: Kind, _ object: String) -> String { "\(database):\(kind.rawValue)/\(object)" }
}

/// What was found in one database.
public struct DatabaseRemains: Sendable, Equatable {
    public struct Schema: Sendable, Equatable {
        public var version: Int
        public var sizeBytes: Int64
        /// Why it can't go yet, and the command to run first.
        public var obstacle: String?
        public var sql: [String]

        public init(version: Int, sizeBytes: Int64 = 0, obstacle: String? = nil, sql: [String] = []) {
            (self.version, self.sizeBytes, self.obstacle, self.sql) = (version, sizeBytes, obstacle, sql)
        }
    }

    public struct Guarded: Sendable, Equatable {
        public var mode: String
        public var tableCount: Int
        public var sql: [String]

        public init(mode: String, tableCount: Int, sql: [String]) {
            (self.mode, self.tableCount, self.sql) = (mode, tableCount, sql)
        }
    }

    /// Triggers by which a strict fence refuses the writes of a service that has moved.
    public struct Refusal: Sendable, Equatable {
        public var service: String
        public var sql: [String]

        public init(service: String, sql: [String]) { (self.service, self.sql) = (service, sql) }
    }

    /// A replica identity that Lindero changed.
    public struct Identity: Sendable, Equatable {
        public var table: QualifiedName
        public var sql: [String]

        public init(table: QualifiedName, sql: [String]) { (self.table, self.sql) = (table, sql) }
    }

    /// A role of another database's service that may write here.
    public struct Writer: Sendable, Equatable {
        public var role: String
        /// Tables on which privileges were granted to itself.
        public var granted: [QualifiedName]
        /// Tables that it may write otherwise: as owner, superuser, member of another role, or through PUBLIC.
        public var otherwise: [QualifiedName]

        public init(role: String, granted: [QualifiedName], otherwise: [QualifiedName] = []) {
            (self.role, self.granted, self.otherwise) = (role, granted, otherwise)
        }
    }

    public var database: String
    public var objects = OwnObjects()
    public var schema: Schema?
    public var guarded: Guarded?
    public var refusals: [Refusal] = []
    public var identities: [Identity] = []
    public var writers: [Writer] = []
    /// Columns of the declared tables.
    public var columns: [QualifiedName: Set<String>] = [:]

    public init(database: String) { self.database = database }
}
