/// A table as a database's catalog describes it.
public struct TableDescription: Sendable, Equatable {
    public enum ReplicaIdentity: String, Sendable {
        case `default` = "d"
        case nothing = "n"
        case full = "f"
        case index = "i"
    }

    public enum Kind: String, Sendable {
        case ordinary = "r"
        case partitioned = "p"
    }

    public var name: QualifiedName
    public var oid: UInt32
    public var kind: Kind
    /// True for a leaf or middle partition of another table.
    public var isPartition: Bool
    public var columns: [ColumnDescription]
    /// Columns of the primary key, in key order; empty when there is none.
    public var primaryKey: [String]
    public var replicaIdentity: ReplicaIdentity
    /// Columns of the replica identity's index (`USING INDEX`), else the primary key, else empty.
    public var identityColumns: [String]
    /// Column sets of every other unique, immediate, non-partial, expression-free index.
    public var uniqueKeys: [[String]]
    /// How many indexes compare rows: every unique one, whatever its form, and those of exclusion constraints.
    public var comparingIndexCount: Int

    public init(
        name: QualifiedName, oid: UInt32 = 0, kind: Kind = .ordinary, isPartition: Bool = false,
        columns: [ColumnDescription], primaryKey: [String] = [], replicaIdentity: ReplicaIdentity = .default,
        identityColumns: [String] = [], uniqueKeys: [[String]] = [], comparingIndexCount: Int = 0
    ) {
        self.name = name
        self.oid = oid
        self.kind = kind
        self.isPartition = isPartition
        self.columns = columns
        self.primaryKey = primaryKey
        self.replicaIdentity = replicaIdentity
        self.identityColumns = identityColumns
        self.uniqueKeys = uniqueKeys
        self.comparingIndexCount = comparingIndexCount
    }

    /// In SQL, without the tables that inherit from it. Of a partitioned table that would be no row.
    public var only: String { (kind == .ordinary ? "ONLY " : "") + name.sql }

    public func column(_ name: String) -> ColumnDescription? { columns.first { $0.name == name } }

    /// Columns of the table on another database that may be what one of these was called before: nothing here has their name, and they
    /// have its type, of which the databases' own have other numbers there.
    public func formerColumns(of column: ColumnDescription, in twin: TableDescription) -> [ColumnDescription] {
        twin.columns.filter { other in
            !other.isGenerated && self.column(other.name) == nil && (other.typeOID == column.typeOID || other.type == column.type)
        }
    }

    /// The columns that find a row of this table on `target`: with `REPLICA IDENTITY FULL` the stream tells them all, and
    /// the target's own key is used.
    public func rowKey(on target: TableDescription) -> [String] { replicaIdentity == .full ? target.primaryKey : identityColumns }

    /// Whether these columns alone, in whatever order, are a key.
    func hasUniqueKey(_ columns: [String]) -> Bool {
        (uniqueKeys + [primaryKey]).contains { !$0.isEmpty && Set($0) == Set(columns) }
    }

    /// Whether no update may name the column outside of `key`: PostgreSQL refuses to give a `GENERATED ALWAYS AS IDENTITY`
    /// column any value, the one that it has included, also to a replica's session.
    public func refusesUpdates(of name: String, key: [String]) -> Bool {
        column(name)?.identity == .always && !key.contains(name)
    }
}

/// A column as the catalog describes it.
public struct ColumnDescription: Sendable, Equatable {
    public enum Identity: String, Sendable {
        case none = ""
        case always = "a"
        case byDefault = "d"
    }

    public var name: String
    /// Position in the table (`attnum`).
    public var number: Int
    /// `format_type` with its modifier, for people and for DDL: `numeric(12,2)`, `"public"."Status"`.
    public var type: String
    public var typeOID: UInt32
    /// The type under all domains.
    public var baseTypeOID: UInt32
    /// The base type's modifier (`atttypmod`, or the domain's); -1 for none.
    public var baseModifier: Int32
    /// The base type with its modifier, as `type` is.
    public var baseType: String
    /// Types of the users' own under the base type, itself included, where it is no enum: what they are made of.
    public var definitions: [TypeDefinition] = []
    /// `typarray` of the base type; 0 when it has none.
    public var baseArrayOID: UInt32
    /// The base type as a cast names it, without modifier; `nil` when a cast from text may read it otherwise than a
    /// text parameter does.
    public var castName: String?
    /// What its default B-tree index finds equal values by, `OPERATOR(schema.=)`; `nil` for what `=` stands for by itself.
    public var equality: String?
    /// `typtype` of the base type: b base, c composite, e enum, r range, m multirange.
    public var baseKind: String
    /// `typcategory` of the base type; `A` is an array.
    public var category: String
    public var isNotNull: Bool
    public var isGenerated: Bool
    public var identity: Identity
    /// The default's SQL expression.
    public var defaultExpression: String?
    /// What rows have in it that are older than the column, as text; `nil` where the catalog does not tell (`attmissingval`).
    public var missingValue: String?

    public init(
        name: String, number: Int = 0, type: String, typeOID: UInt32 = 0, baseTypeOID: UInt32 = 0,
        baseModifier: Int32 = -1, baseType: String? = nil, baseArrayOID: UInt32 = 0, castName: String? = nil, equality: String? = nil,
        baseKind: String = "b", category: String = "", isNotNull: Bool = false, isGenerated: Bool = false,
        identity: Identity = .none, defaultExpression: String? = nil, missingValue: String? = nil
    ) {
        self.name = name
        self.number = number
        self.type = type
        self.typeOID = typeOID
        self.baseTypeOID = baseTypeOID
        self.baseModifier = baseModifier
        self.baseType = baseType ?? type
        self.baseArrayOID = baseArrayOID
        self.castName = castName
        self.equality = equality
        self.baseKind = baseKind
        self.category = category
        self.isNotNull = isNotNull
        self.isGenerated = isGenerated
        self.identity = identity
        self.defaultExpression = defaultExpression
        self.missingValue = missingValue
    }

    public var isDomain: Bool { typeOID != baseTypeOID }

    /// Whether TOAST may keep a value elsewhere: that of any type whose values differ in length.
    public var mayBeLarge: Bool { baseKind != "e" && !Self.fixedLengthOIDs.contains(baseTypeOID) }

    /// Of `typlen` > 0 in `pg_type.dat`: bool, "char", name, int8, int2, int4, oid, float4, float8, money, macaddr, macaddr8, date, time,
    /// timestamp, timestamptz, interval, timetz, uuid, pg_lsn.
    static let fixedLengthOIDs: Set<UInt32> = [
        16, 18, 19, 20, 21, 23, 26, 700, 701, 790, 829, 774, 1082, 1083, 1114, 1184, 1186, 1266, 2950, 3220,
    ]
}
