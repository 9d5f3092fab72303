/// What one login role may write, as the database's privileges say.
public struct RoleGrants: Sendable, Equatable {
    public struct TableGrants: Sendable, Equatable {
        public var table: QualifiedName
        public var mayInsert: Bool
        public var mayDelete: Bool
        /// Columns the role may update.
        public var updatableColumns: Set<String>

        public init(table: QualifiedName, mayInsert: Bool, mayDelete: Bool, updatableColumns: Set<String>) {
            self.table = table
            self.mayInsert = mayInsert
            self.mayDelete = mayDelete
            self.updatableColumns = updatableColumns
        }
    }

    public var role: String
    /// Tables on which the role may write anything.
    public var tables: [QualifiedName: TableGrants]

    public init(role: String, tables: [TableGrants]) {
        self.role = role
        self.tables = Dictionary(tables.map { ($0.table, $0) }, uniquingKeysWith: { first, _ in first })
    }
}
