/// What Lindero made beside its schema for one database: slots and publications on it, replication origins for it.
public struct OwnObjects: Sendable, Equatable {
    public struct Slot: Sendable, Equatable {
        public var name: String
        public var isActive: Bool
        /// WAL that the server keeps for it; `nil` when it keeps none any more.
        public var retainedBytes: Int64?

        public init(name: String, isActive: Bool = false, retainedBytes: Int64? = nil) {
            (self.name, self.isActive, self.retainedBytes) = (name, isActive, retainedBytes)
        }
    }

    public struct Origin: Sendable, Equatable {
        public var name: String
        /// `source->target`.
        public var direction: String
        /// Whether a session applies with it; `false` also when this role may not know.
        public var isHeld: Bool

        public init(name: String, direction: String, isHeld: Bool = false) {
            (self.name, self.direction, self.isHeld) = (name, direction, isHeld)
        }
    }

    public var slots: [Slot]
    public var publications: [String]
    public var origins: [Origin]

    public init(slots: [Slot] = [], publications: [String] = [], origins: [Origin] = []) {
        (self.slots, self.publications, self.origins) = (slots, publications, origins)
    }

    public var isInUse: Bool { slots.contains(where: \.isActive) || origins.contains(where: \.isHeld) }

    public static func dropSlot(_ name: String) -> String { "SELECT pg_catalog.pg_drop_replication_slot(\(SQLText.literal(name)));" }
    public static func dropPublication(_ name: String) -> String { "DROP PUBLICATION IF EXISTS \(SQLText.identifier(name));" }
    public static func dropOrigin(_ name: String) -> String { "SELECT pg_catalog.pg_replication_origin_drop(\(SQLText.literal(name)));" }

    /// What drops all of them, in an order in which no change can be missed unseen: slots first.
    public var dropStatements: [String] {
        slots.map { Self.dropSlot($0.name) } + publications.map { Self.dropPublication($0) } + origins.map { Self.dropOrigin($0.name) }
    }
}
