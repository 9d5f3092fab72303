import CLibPQ

extension LibPQSession {
    /// What a running pipeline has come to.
    private struct Progress {
        var sentCount = 0
        var answeredCount = 0
        var results: [PostgresResult] = []
        var failure: PipelineError?
        var isSynced = false
    }

    /// Sent at the latest when this much is waiting: soon enough to keep the server busy, late enough to fill packets.
    private static let sendBytes = 64 << 10

    /// Sends all steps and one Sync, and reads the answers meanwhile, so that neither side ever waits for the other
    /// to read. After an error all answers up to the Sync have been read: the connection can be used again.
    func run(
        _ steps: [PipelineStep], whenSent: (@Sendable () -> Void)? = nil
    ) throws(PostgresError) -> Result<[PostgresResult], PipelineError> {
        let handle = try idle()
        // Refused before anything is sent.
        for step in steps { try step.check() }
        guard PQenterPipelineMode(handle) == 1 else { throw notSent() }
        hasOpenPipeline = true
        var progress = Progress()
        progress.results.reserveCapacity(steps.count)
        try send(steps, &progress)
        whenSent?()
        try takeRest(&progress)
        guard PQexitPipelineMode(try opened()) == 1 else { throw lost() }
        if let failure = progress.failure { return .failure(failure) }
        return .success(progress.results)
    }

    private func send(_ steps: [PipelineStep], _ progress: inout Progress) throws(PostgresError) {
        var waitingBytes = 0
        for step in steps {
            // The server skips everything from the failed step to the Sync.
            if progress.failure != nil { break }
            guard try send(step) == 1 else { throw lost() }
            progress.sentCount += 1
            waitingBytes += step.approximateBytes
            if waitingBytes >= Self.sendBytes {
                waitingBytes = 0
                try push(&progress)
            }
        }
        guard PQpipelineSync(try opened()) == 1 else { throw lost() }
        hasOpenPipeline = false
        try push(&progress)
    }

    private func takeRest(_ progress: inout Progress) throws(PostgresError) {
        while !progress.isSynced {
            try takeAnswers(&progress, awaitsSync: true)
            if progress.isSynced { return }
            try wait(reading: true, writing: false)
            try consume()
        }
    }

    private func send(_ step: PipelineStep) throws(PostgresError) -> CInt {
        let handle = try opened()
        switch step {
        case .prepare(let name, let sql, let types):
            return PQsendPrepare(handle, name, sql, CInt(types.count), types)
        case .execute(let name, let parameters, let binaryResult):
            return execute(handle, name, parameters, binaryResult: binaryResult)
        case .executeLater(let name, let source):
            let parameters = source.parameters()
            // Refused in the middle of a pipeline, it spoils what is open: the caller rolls back.
            try ParameterBlock.check(parameters)
            return execute(handle, name, parameters, binaryResult: false)
        case .query(let sql, let parameters, let types):
            return ParameterBlock.withArguments(parameters, scratch: &scratch) {
                PQsendQueryParams(
                    handle, sql, $0.count, types.isEmpty ? nil : types, $0.values, $0.lengths, $0.formats, 0)
            }
        }
    }

    private func execute(
        _ handle: OpaquePointer, _ name: String, _ parameters: [PostgresParameter], binaryResult: Bool
    ) -> CInt {
        ParameterBlock.withArguments(parameters, scratch: &scratch) {
            PQsendQueryPrepared(handle, name, $0.count, $0.values, $0.lengths, $0.formats, binaryResult ? 1 : 0)
        }
    }

    /// Sends what libpq holds; takes answers whenever the socket is full.
    private func push(_ progress: inout Progress) throws(PostgresError) {
        while true {
            let left = PQflush(try opened())
            if left == 0 { return }
            guard left > 0 else { throw lost() }
            if try wait(reading: true, writing: true) {
                try consume()
                try takeAnswers(&progress, awaitsSync: false)
            }
        }
    }

    /// Takes the answers that have come, without waiting.
    private func takeAnswers(_ progress: inout Progress, awaitsSync: Bool) throws(PostgresError) {
        while awaitsSync || progress.answeredCount < progress.sentCount {
            let handle = try opened()
            if PQisBusy(handle) == 1 { return }
            guard let result = PQgetResult(handle).map({ RawResult($0) }) else {
                // One more after the last step ends what the Sync itself met: a refusal by a deferred constraint.
                if progress.answeredCount == progress.sentCount, progress.failure != nil { continue }
                progress.answeredCount += 1
                if progress.answeredCount > progress.sentCount { throw lost() }
                continue
            }
            switch result.status {
            case PGRES_PIPELINE_SYNC:
                progress.isSynced = true
                return
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY: progress.results.append(result.copied())
            case PGRES_PIPELINE_ABORTED: continue
            default:
                let error = error(in: result)
                guard isOpen else { throw error }
                progress.failure =
                    progress.failure ?? PipelineError(stepIndex: progress.answeredCount, error: error)
            }
        }
    }
}
