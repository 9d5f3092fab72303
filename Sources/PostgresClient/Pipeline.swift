import CLibPQ

/// One request of a pipeline.
public enum PipelineStep: Sendable {
    /// Parses a statement under a name; `parameterTypes` are OIDs, 0 lets the server infer.
    case prepare(name: String, sql: String, parameterTypes: [UInt32])
    /// Runs a prepared statement.
    case execute(name: String, parameters: [PostgresParameter], binaryResult: Bool)
    /// Parses and runs one statement.
    case query(sql: String, parameters: [PostgresParameter], parameterTypes: [UInt32])
}

extension LibPQSession {
    /// Sends all steps and one Sync, then reads the results; sending and reading take turns when buffers fill.
    ///
    /// - Throws: `PipelineError`; results up to the Sync have been read then, and the connection can be used again.
    func run(_ steps: [PipelineStep]) throws -> [PostgresResult] {
        let handle = try connection()
        guard PQenterPipelineMode(handle) == 1 else { throw lost() }
        do {
            let results = try interruptible(timeoutMilliseconds: nil) { _ throws(PostgresError) in
                try exchange(steps)
            }
            guard PQexitPipelineMode(handle) == 1 else { throw lost() }
            return try results.get()
        } catch let error as PostgresError {
            if !isOpen { finish() }
            throw error
        }
    }

    private func exchange(_ steps: [PipelineStep]) throws(PostgresError) -> Result<[PostgresResult], PipelineError> {
        let handle = try connection()
        for (index, step) in steps.enumerated() {
            guard send(step, handle) == 1 else { throw lost() }
            // Often enough that the server starts early, seldom enough to fill packets.
            if index % 64 == 63 { try flushSome() }
        }
        guard PQpipelineSync(handle) == 1 else { throw lost() }
        try flush(deadline: nil)
        return try collect(steps.count)
    }

    private func send(_ step: PipelineStep, _ handle: OpaquePointer) -> Int32 {
        switch step {
        case .prepare(let name, let sql, let types):
            return PQsendPrepare(handle, name, sql, Int32(types.count), types)
        case .execute(let name, let parameters, let binaryResult):
            return ParameterBlock.withArguments(parameters) {
                PQsendQueryPrepared(handle, name, $0.count, $0.values, $0.lengths, $0.formats, binaryResult ? 1 : 0)
            }
        case .query(let sql, let parameters, let types):
            return ParameterBlock.withArguments(parameters) {
                PQsendQueryParams(
                    handle, sql, $0.count, types.isEmpty ? nil : types, $0.values, $0.lengths, $0.formats, 0)
            }
        }
    }

    /// Sends without waiting, and keeps the server's answers from filling its buffer.
    private func flushSome() throws(PostgresError) {
        let handle = try connection()
        guard PQconsumeInput(handle) == 1 else { throw lost() }
        if PQflush(handle) > 0 { try flush(deadline: nil) }
    }

    private func collect(_ count: Int) throws(PostgresError) -> Result<[PostgresResult], PipelineError> {
        var results: [PostgresResult] = []
        results.reserveCapacity(count)
        var failure: PipelineError?
        while true {
            guard let result = try nextResult(deadline: nil) else { continue }  // the end of one step
            defer { PQclear(result) }
            let status = PQresultStatus(result)
            if status == PGRES_PIPELINE_SYNC { break }
            if status == PGRES_PIPELINE_ABORTED { continue }
            do {
                results.append(try decode(result))
            } catch {
                guard isOpen else { throw error }
                failure = failure ?? PipelineError(stepIndex: results.count, error: error)
            }
        }
        return failure.map { .failure($0) } ?? .success(results)
    }
}
