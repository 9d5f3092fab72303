import CLibPQ

extension LibPQSession {
    /// What has been sent of one run, up to its Sync, and what the server has answered.
    struct PipelineRun {
        /// Whether anybody wants to see what the steps have given.
        var keepsResults = true
        var sentCount = 0
        var answeredCount = 0
        var results: [PostgresResult] = []
        var failure: PipelineError?
        var isSyncSent = false

        /// Whether the server still has something to say to what is sent.
        var isAwaited: Bool { isSyncSent || answeredCount < sentCount }
        var outcome: Result<[PostgresResult], PipelineError> { failure.map { .failure($0) } ?? .success(results) }
    }

    /// Sent at the latest when this much is waiting: soon enough to keep the server busy, late enough to fill packets.
    private static let sendBytes = 64 << 10

    /// Sends all steps and one Sync, and reads the answers meanwhile, so that neither side ever waits for the other
    /// to read. After an error all answers up to the Sync have been read: the connection can be used again.
    func run(
        _ steps: [PipelineStep], whenSent: (@Sendable () -> Void)? = nil
    ) throws(PostgresError) -> Result<[PostgresResult], PipelineError> {
        _ = try idle()
        try send(steps)
        whenSent?()
        return try awaitRun()
    }

    /// Sends all steps and one Sync, behind runs that the server has not answered yet, which may fail without these.
    func send(_ steps: [PipelineStep], keepsResults: Bool = true) throws(PostgresError) {
        let handle = runs.isEmpty && answered.isEmpty ? try idle() : try opened()
        // Refused before anything is sent.
        for step in steps { try step.check() }
        if PQpipelineStatus(handle) == PQ_PIPELINE_OFF {
            guard PQenterPipelineMode(handle) == 1 else { throw notSent() }
        }
        hasOpenPipeline = true
        // Those before it may be answered meanwhile, and gone; it is not, without its Sync.
        runs.append(PipelineRun(keepsResults: keepsResults))
        if keepsResults { runs[runs.count - 1].results.reserveCapacity(steps.count) }
        var waitingBytes = 0
        for step in steps {
            // The server skips everything from the failed step to the Sync.
            if runs[runs.count - 1].failure != nil { break }
            guard try send(step) == 1 else { throw lost() }
            runs[runs.count - 1].sentCount += 1
            waitingBytes += step.approximateBytes
            if waitingBytes >= Self.sendBytes {
                waitingBytes = 0
                try push()
            }
        }
        guard PQpipelineSync(try opened()) == 1 else { throw lost() }
        runs[runs.count - 1].isSyncSent = true
        hasOpenPipeline = false
        try push()
    }

    /// What the first run has come to that is not taken yet; waits for it.
    func awaitRun() throws(PostgresError) -> Result<[PostgresResult], PipelineError> {
        while true {
            try takeAnswers()
            if let outcome = try takeAnswered() { return outcome }
            guard !runs.isEmpty else { throw .protocolViolation("no answer of a pipeline is to come") }
            try wait(reading: true, writing: false)
            try consume()
        }
    }

    /// The same, without waiting; `nil` when the server has not answered all of it.
    func takeRun() throws(PostgresError) -> Result<[PostgresResult], PipelineError>? {
        if answered.isEmpty {
            try consume()
            try takeAnswers()
        }
        return try takeAnswered()
    }

    private func takeAnswered() throws(PostgresError) -> Result<[PostgresResult], PipelineError>? {
        guard !answered.isEmpty else { return nil }
        let outcome = answered.removeFirst()
        if runs.isEmpty, answered.isEmpty, PQexitPipelineMode(try opened()) != 1 { throw lost() }
        return outcome
    }

    private func send(_ step: PipelineStep) throws(PostgresError) -> CInt {
        let handle = try opened()
        switch step {
        case .prepare(let name, let sql, let types):
            return PQsendPrepare(handle, name, sql, CInt(types.count), types)
        case .execute(let name, let parameters, let binaryResult):
            return execute(handle, name, parameters, binaryResult: binaryResult)
        case .executePacked(let name, let parameters):
            return execute(handle, name, parameters)
        case .executeLater(let name, let source):
            defer { packed.removeAll() }
            packed.reserve(bytes: source.approximateBytes)
            source.append(to: &packed)
            // Refused in the middle of a pipeline, it spoils what is open: the caller rolls back.
            try ParameterBlock.check(packed)
            return execute(handle, name, packed)
        case .query(let sql, let parameters, let types):
            return ParameterBlock.withArguments(parameters, scratch: &scratch) {
                PQsendQueryParams(
                    handle, sql, $0.count, types.isEmpty ? nil : types, $0.values, $0.lengths, $0.formats, 0)
            }
        }
    }

    private func execute(_ handle: OpaquePointer, _ name: String, _ parameters: PackedParameters) -> CInt {
        ParameterBlock.withArguments(parameters) {
            PQsendQueryPrepared(handle, name, $0.count, $0.values, $0.lengths, $0.formats, 0)
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
    private func push() throws(PostgresError) {
        while true {
            let left = PQflush(try opened())
            if left == 0 { return }
            guard left > 0 else { throw lost() }
            if try wait(reading: true, writing: true) {
                try consume()
                try takeAnswers()
            }
        }
    }

    /// Takes the answers that have come, without waiting.
    private func takeAnswers() throws(PostgresError) {
        while !runs.isEmpty, runs[0].isAwaited {
            let handle = try opened()
            if PQisBusy(handle) == 1 { return }
            guard let result = PQgetResult(handle).map({ RawResult($0) }) else {
                // One more after the last step ends what the Sync itself met: a refusal by a deferred constraint.
                if runs[0].answeredCount == runs[0].sentCount, runs[0].failure != nil { continue }
                runs[0].answeredCount += 1
                if runs[0].answeredCount > runs[0].sentCount { throw lost() }
                continue
            }
            switch result.status {
            case PGRES_PIPELINE_SYNC: answered.append(runs.removeFirst().outcome)
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY:
                if runs[0].keepsResults { runs[0].results.append(result.copied()) }
            case PGRES_PIPELINE_ABORTED: continue
            default:
                let error = error(in: result)
                guard isOpen else { throw error }
                runs[0].failure =
                    runs[0].failure ?? PipelineError(stepIndex: runs[0].answeredCount, error: error)
            }
        }
    }
}
