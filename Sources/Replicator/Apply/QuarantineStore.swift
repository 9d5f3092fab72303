import PostgresClient
import ReplicationCore

/// A change that the target refused and that waits, or waited, for a person.
public struct QuarantinedChange: Sendable, Equatable {
    public enum State: String, Sendable { case open, applied, discarded }

    public var id: Int64
    public var direction: String
    public var table: QualifiedName
    public var operation: String
    public var sourceXID: Int64
    public var commitLSN: String
    public var commitTime: String
    /// Among the changes of its source transaction, from 0.
    public var position: Int64
    public var sqlState: String?
    public var reason: String
    public var state: State
    public var quarantinedAt: String
}

/// One value of a quarantined change, as text.
public struct QuarantinedValue: Sendable, Equatable {
    public enum Image: String, Sendable { case old, new }

    public var column: String
    public var image: Image
    /// `nil` for NULL.
    public var text: String?
    /// The source did not send the value, because it did not change.
    public var isUnchanged = false
}

/// Why a decision about a quarantined change was not carried out.
public enum QuarantineError: Error, Sendable {
    case unknown(Int64)
    case alreadyDecided(Int64, QuarantinedChange.State)
    /// The target still refuses it.
    case refused(Int64, String)
    /// The target has something newer, which the change would write over; why that is known.
    case superseded(Int64, String)
    /// By the rules of today nothing of it travels; why.
    case withheld(Int64, String)
    /// It speaks of columns that are not there any more, so that only the source knows what its row should be; which.
    case outdated(Int64, String)
    case cannotBeRead(Int64)
}

/// `lindero.quarantine` on a target.
public struct QuarantineStore {
    let connection: PostgresConnection

    public init(connection: PostgresConnection) { self.connection = connection }

    /// Options for a connection that is to retry: no trigger and no foreign key may fire twice.
    public static func options(_ options: ConnectionOptions) -> ConnectionOptions {
        var options = options
        options.settings += [(name: "session_replication_role", value: "replica")]
        return options
    }

    public func exists() async throws -> Bool {
        try await connection.hasLindero("quarantine")
    }

    /// How many changes wait.
    public func openCount() async throws -> Int {
        guard try await exists() else { return 0 }
        let result = try await connection.query("SELECT count(*)::text FROM lindero.quarantine WHERE state = 'open'")
        return result.firstValue.flatMap { Int($0) } ?? 0
    }

    /// - Parameter onlyOpen: leaves out what was decided.
    public func list(onlyOpen: Bool) async throws -> [QuarantinedChange] {
        try await read("WHERE state = 'open' OR NOT $1::text::boolean", [.text("\(onlyOpen)")])
    }

    /// One change with its values.
    ///
    /// - Throws: `QuarantineError`.
    public func show(_ id: Int64) async throws -> (change: QuarantinedChange, values: [QuarantinedValue]) {
        guard try await exists(), let change = try await read("WHERE id = $1::text::bigint", [.text("\(id)")]).first else {
            throw QuarantineError.unknown(id)
        }
        let stored = try await stored(id)
        var values: [QuarantinedValue] = []
        for (image, tuple) in [(QuarantinedValue.Image.old, stored.change.old), (.new, stored.change.new)] {
            for (column, cell) in zip(stored.relation.columns, tuple.cells) {
                values.append(try await value(column, image, stored.arena.cells[cell].kind, stored.arena.parameter(cell)))
            }
        }
        return (change, values)
    }

    /// Applies a change now; it and its mark commit together.
    ///
    /// - Parameter force: also over what is newer.
    /// - Throws: `QuarantineError`.
    public func retry(_ id: Int64, settings: DirectionSettings, force: Bool = false) async throws {
        try await connection.inTransaction {
            try await requireOpen(id)
            let stored = try await stored(id)
            try await apply(stored, id: id, settings: settings, force: force)
            // Last: an update that is taken back would leave its mark on when the row was made, which `QuarantineAge` reads.
            try await decide(id, .applied)
        }
    }

    /// Gives a change up; it stays on record.
    public func discard(_ id: Int64) async throws {
        guard try await exists() else { throw QuarantineError.unknown(id) }
        try await decide(id, .discarded)
    }

    private func requireOpen(_ id: Int64) async throws {
        _ = try await connection.query("SELECT 1 FROM lindero.quarantine WHERE id = $1::text::bigint FOR UPDATE", [.text("\(id)")])
        let state = try await knownState(of: id)
        if state != .open { throw QuarantineError.alreadyDecided(id, state) }
    }

    private func knownState(of id: Int64) async throws -> QuarantinedChange.State {
        guard let known = try await read("WHERE id = $1::text::bigint", [.text("\(id)")]).first else {
            throw QuarantineError.unknown(id)
        }
        return known.state
    }

    private func decide(_ id: Int64, _ state: QuarantinedChange.State) async throws {
        let result = try await connection.query(
            """
            UPDATE lindero.quarantine SET state = $2, decided_at = pg_catalog.clock_timestamp(), decided_by = session_user
            WHERE id = $1::text::bigint AND state = 'open'
            """, [.text("\(id)"), .text(state.rawValue)])
        if result.affectedRows == 1 { return }
        throw QuarantineError.alreadyDecided(id, try await knownState(of: id))
    }

    private func read(_ condition: String, _ parameters: [PostgresParameter]) async throws -> [QuarantinedChange] {
        let result = try await connection.query(
            """
            SELECT id::text, direction, schema_name, table_name, operation, source_xid::text, commit_lsn::text,
              commit_time::text, position::text, sqlstate, reason, state, quarantined_at::text
            FROM lindero.quarantine \(condition) ORDER BY quarantine.id
            """, parameters)
        return result.rows.compactMap { row in
            guard let id = row[0].flatMap({ Int64($0) }), let state = row[11].flatMap(QuarantinedChange.State.init) else { return nil }
            return QuarantinedChange(
                id: id, direction: row[1] ?? "", table: QualifiedName(schema: row[2] ?? "", name: row[3] ?? ""),
                operation: row[4] ?? "", sourceXID: row[5].flatMap { Int64($0) } ?? 0, commitLSN: row[6] ?? "",
                commitTime: row[7] ?? "", position: row[8].flatMap { Int64($0) } ?? 0, sqlState: row[9],
                reason: row[10] ?? "", state: state, quarantinedAt: row[12] ?? "")
        }
    }

    // MARK: the change itself

    struct Stored {
        var relation: RelationMessage
        var change: Change
        var arena: ChangeArena
        var isBinary: Bool { arena.cells.contains { $0.kind == .binary } }
    }

    func stored(_ id: Int64) async throws -> Stored {
        let result = try await connection.query(
            "SELECT relation, change FROM lindero.quarantine WHERE id = $1::text::bigint", [.text("\(id)")], binaryResult: true)
        guard result.rowCount == 1, let relation = result.bytes(row: 0, column: 0), let change = result.bytes(row: 0, column: 1)
        else { throw QuarantineError.unknown(id) }
        var decoder = PGOutputDecoder(protocolVersion: 1)
        var arena = ChangeArena()
        guard case .relation(let message, _) = try decoder.decode(relation, relation.indices, into: &arena) else {
            throw QuarantineError.cannotBeRead(id)
        }
        let decoded: Change
        switch try decoder.decode(change, change.indices, into: &arena) {
        case .insert(_, let new, _): decoded = Change(kind: .insert, relation: 0, new: new)
        case .update(_, let old, let new, _): decoded = Change(kind: .update, relation: 0, old: old, new: new)
        case .delete(_, let old, _): decoded = Change(kind: .delete, relation: 0, old: old)
        default: throw QuarantineError.cannotBeRead(id)
        }
        return Stored(relation: message, change: decoded, arena: arena)
    }

    private func apply(_ stored: Stored, id: Int64, settings: DirectionSettings, force: Bool) async throws {
        let kept = try await KeptChange.make(stored, id: id, settings: settings, target: connection)
        if !force { try await QuarantineAge(store: self, kept: kept).requireNewest(stored, id: id) }
        let statement = RowStatement(shape: kept.row.shape, plan: kept.plan)
        let result: PostgresResult
        do {
            result = try await connection.query(
                statement.sql, kept.row.cells.map { kept.arena.parameter($0) }, parameterTypes: statement.parameterTypes)
            // What waits for the commit is refused as well.
            _ = try await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        } catch {
            guard case .server = error else { throw error }
            throw QuarantineError.refused(id, "\(error)")
        }
        if stored.change.kind != .insert, result.affectedRows != 1 {
            throw QuarantineError.refused(id, "no row of \(stored.relation.name) has its key")
        }
    }

    /// The server itself turns a binary value into text.
    private func value(
        _ column: RelationMessage.Column, _ image: QuarantinedValue.Image, _ kind: Cell.Kind, _ parameter: PostgresParameter
    ) async throws -> QuarantinedValue {
        switch kind {
        case .null: return QuarantinedValue(column: column.name, image: image)
        case .unchanged: return QuarantinedValue(column: column.name, image: image, isUnchanged: true)
        case .text, .binary:
            let known = try await connection.query(
                "SELECT 1 FROM pg_catalog.pg_type WHERE oid = $1::text::oid", [.text("\(column.typeOID)")])
            // An enum of the source has another number here; its binary form is its text.
            let type = kind == .binary && known.rowCount > 0 && column.typeOID < TypeCompatibility.firstUserOID ? column.typeOID : 25
            let result = try await connection.query("SELECT $1::text", [parameter], parameterTypes: [kind == .text ? 25 : type])
            return QuarantinedValue(column: column.name, image: image, text: result.firstValue)
        }
    }
}
