import CLibPQ

extension LibPQSession {
    /// Runs a script by the simple protocol; the result of its last statement.
    func simple(_ script: String, deadline: Deadline?) throws(PostgresError) -> PostgresResult {
        let handle = try connection()
        guard PQsendQuery(handle, script) == 1 else { throw lost() }
        try flush(deadline: deadline)
        return try lastResult(deadline: deadline)
    }

    /// Takes results to the end of a command; the last one, or the first error.
    func lastResult(deadline: Deadline?) throws(PostgresError) -> PostgresResult {
        var last = PostgresResult.empty
        var failure: PostgresError?
        while let result = try nextResult(deadline: deadline) {
            defer { PQclear(result) }
            switch PQresultStatus(result) {
            case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
                failure = .protocolViolation("COPY was begun by a statement that was not to begin one.")
                _ = PQputCopyEnd(try connection(), "not expected here")
                if PQresultStatus(result) == PGRES_COPY_OUT {
                    finish()
                    throw failure ?? lost()
                }
            default:
                do { last = try decode(result) } catch { failure = failure ?? error }
            }
        }
        if let failure { throw failure }
        return last
    }

    /// The next result of the running command; `nil` at its end.
    func nextResult(deadline: Deadline?) throws(PostgresError) -> OpaquePointer? {
        try awaitInput(deadline: deadline)
        return PQgetResult(try connection())
    }

    /// A result as a value; an error result is thrown.
    func decode(_ result: OpaquePointer) throws(PostgresError) -> PostgresResult {
        switch PQresultStatus(result) {
        case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY:
            return PostgresResult(
                columns: [], rowCount: 0, affectedRows: Self.affected(result), commandTag: Self.tag(result), cells: [])
        case PGRES_TUPLES_OK, PGRES_SINGLE_TUPLE:
            return Self.table(result)
        case PGRES_PIPELINE_SYNC:
            return .empty
        default:
            throw isOpen ? error(in: result) : lost()
        }
    }

    /// An error result as an error.
    func error(in result: OpaquePointer) -> PostgresError {
        func field(_ code: Character) -> String? {
            PQresultErrorField(result, Int32(code.asciiValue ?? 0)).map { String(cString: $0) }
        }
        guard let state = field("C") else {
            let text = String(cString: PQresultErrorMessage(result)).split(separator: "\n").joined(separator: " ")
            return .closed(text)
        }
        return .server(
            ServerError(
                severity: field("V") ?? field("S") ?? "ERROR", sqlState: SQLState(state), message: field("M") ?? "",
                hint: field("H"), schema: field("s"), table: field("t"), column: field("c"), constraint: field("n")))
    }

    private static func affected(_ result: OpaquePointer) -> Int {
        Int(String(cString: PQcmdTuples(result))) ?? 0
    }

    private static func tag(_ result: OpaquePointer) -> String { String(cString: PQcmdStatus(result)) }

    private static func table(_ result: OpaquePointer) -> PostgresResult {
        let (rows, columns) = (PQntuples(result), PQnfields(result))
        var cells: [[UInt8]?] = []
        cells.reserveCapacity(Int(rows) * Int(columns))
        for row in 0..<rows {
            for column in 0..<columns {
                guard PQgetisnull(result, row, column) == 0, let value = PQgetvalue(result, row, column) else {
                    cells.append(nil)
                    continue
                }
                let bytes = UnsafeRawBufferPointer(start: value, count: Int(PQgetlength(result, row, column)))
                cells.append([UInt8](bytes))
            }
        }
        return PostgresResult(
            columns: (0..<columns).map { String(cString: PQfname(result, $0)) }, rowCount: Int(rows),
            affectedRows: affected(result), commandTag: tag(result), cells: cells)
    }
}
