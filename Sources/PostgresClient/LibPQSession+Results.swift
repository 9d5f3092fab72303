import CLibPQ

extension LibPQSession {
    /// Runs a script by the simple protocol; the result of its last statement.
    func simple(_ script: String) throws(PostgresError) -> PostgresResult {
        guard PQsendQuery(try idle(), script) == 1 else { throw notSent() }
        try flush()
        return try lastResult()
    }

    /// Runs one statement by the extended protocol.
    func extended(
        _ sql: String, _ parameters: [PostgresParameter], parameterTypes: [UInt32], binaryResult: Bool
    ) throws(PostgresError) -> PostgresResult {
        let handle = try idle()
        try ParameterBlock.check(parameters, types: parameterTypes)
        let sent = ParameterBlock.withArguments(parameters, scratch: &scratch) { arguments in
            PQsendQueryParams(
                handle, sql, arguments.count, parameterTypes.isEmpty ? nil : parameterTypes, arguments.values,
                arguments.lengths, arguments.formats, binaryResult ? 1 : 0)
        }
        guard sent == 1 else { throw notSent() }
        try flush()
        return try lastResult()
    }

    /// Takes results to the end of a command: the last one, or the first error.
    func lastResult() throws(PostgresError) -> PostgresResult {
        var last = PostgresResult()
        var failure: PostgresError?
        while let result = try nextResult() {
            switch result.status {
            case PGRES_COPY_IN, PGRES_COPY_OUT, PGRES_COPY_BOTH:
                failure = failure ?? .protocolViolation("COPY is begun with beginCopyIn and beginCopyOut alone")
                try endUnwantedCopy(result.status)
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY:
                last = result.copied()
            default:
                let error = error(in: result)
                failure = failure ?? error
                // A fatal error was the last that the server said; there is no end of the command to read.
                guard isOpen else { throw error }
            }
        }
        if let failure { throw failure }
        return last
    }

    /// The next result of the running command; nil at its end.
    func nextResult() throws(PostgresError) -> RawResult? {
        while PQisBusy(try opened()) == 1 {
            try wait(reading: true, writing: false)
            try consume()
        }
        return PQgetResult(try opened()).map { RawResult($0) }
    }

    /// An error result as an error. A fatal one closes the connection, as the server has.
    func error(in result: borrowing RawResult) -> PostgresError {
        guard result.isFromServer else { return lost() }
        hasRefusal = true
        let error = result.serverError
        if error.isFatal { close("the server ended it: \(error.message)") }
        return .server(error)
    }

    private func endUnwantedCopy(_ status: ExecStatusType) throws(PostgresError) {
        if status != PGRES_COPY_OUT {
            guard PQputCopyEnd(try opened(), "not expected here") == 1 else { throw lost() }
            try flush()
        }
        if status != PGRES_COPY_IN { try discardCopy() }
    }

    /// Reads a COPY to its end and throws it away.
    func discardCopy() throws(PostgresError) {
        while true {
            var row: UnsafeMutablePointer<CChar>?
            let length = PQgetCopyData(try opened(), &row, 1)
            PQfreemem(row)
            if length < 0 { return }
            if length == 0 {
                try wait(reading: true, writing: false)
                try consume()
            }
        }
    }
}
