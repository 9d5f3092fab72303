import CLibPQ

extension LibPQSession {
    /// Asks the server to stop and throws away what it still sends, so that the connection can be used again. A
    /// server that does not come to an end within the grace period loses us.
    func recover() {
        guard let handle = try? opened() else { return }
        wake.clear()
        let isBusy = PQtransactionStatus(handle) == PQTRANS_ACTIVE || PQpipelineStatus(handle) != PQ_PIPELINE_OFF
        guard isBusy, mode != .stream else { return }
        do throws(PostgresError) {
            let request = try stop(handle)
            // A request still on its way could stop the next statement instead.
            allow(milliseconds: Self.graceMilliseconds)
            while !request.isFinished {
                try waitForWake()
                wake.clear()
            }
            mode = .idle
        } catch {
            close("the server did not stop a statement that was cancelled")
        }
    }

    /// Asks again every now and then: a server drops a request that comes before it has begun the statement.
    private func stop(_ handle: OpaquePointer) throws(PostgresError) -> CancelRequest {
        var request = CancelRequest(for: handle, raising: wake)
        // Each ends one run; the next may wait for the same lock.
        let attempts = Self.cancelAttempts + 2 * runs.count
        for _ in 1..<attempts {
            allow(milliseconds: Self.graceMilliseconds / attempts)
            do {
                try drain()
                return request
            } catch .timeout {
                if request.isFinished { request = CancelRequest(for: handle, raising: wake) }
            }
        }
        allow(milliseconds: Self.graceMilliseconds / attempts)
        try drain()
        return request
    }

    private func drain() throws(PostgresError) {
        let isPipeline = PQpipelineStatus(try opened()) != PQ_PIPELINE_OFF
        if hasOpenPipeline { try spoilPipeline() }
        var emptyAnswers = 0
        while emptyAnswers < (isPipeline ? 2 : 1) {
            let left = PQflush(try opened())
            guard left >= 0 else { throw lost() }
            let isBusy = PQisBusy(try opened()) == 1
            if left > 0 || isBusy {
                if try wait(reading: true, writing: left > 0) { try consume() }
                continue
            }
            emptyAnswers = try dropResult() ? 0 : emptyAnswers + 1
        }
        if isPipeline, PQexitPipelineMode(try opened()) != 1 { throw lost() }
        forgetRuns()
    }

    /// Ends a pipeline so that nothing of it takes effect: a Sync alone would commit the steps sent so far.
    private func spoilPipeline() throws(PostgresError) {
        let handle = try opened()
        guard PQsendQueryParams(handle, "pipeline_given_up_by_the_client", 0, nil, nil, nil, nil, 0) == 1,
            PQpipelineSync(handle) == 1
        else { throw lost() }
        hasOpenPipeline = false
    }

    /// - Returns: whether there was a result.
    private func dropResult() throws(PostgresError) -> Bool {
        let handle = try opened()
        guard let result = PQgetResult(handle).map({ RawResult($0) }) else { return false }
        switch result.status {
        case PGRES_COPY_OUT: try discardCopy()
        case PGRES_COPY_IN, PGRES_COPY_BOTH:
            guard PQputCopyEnd(handle, "cancelled") >= 0 else { throw lost() }
        default: break
        }
        return true
    }
}
