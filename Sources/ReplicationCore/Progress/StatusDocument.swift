/// The JSON forms of a status. `lagDocument` is a contract with scripts: keys may be added, never renamed.
extension StatusSnapshot {
    /// What `lindero lag --json` prints.
    public var lagDocument: JSONValue {
        var entries: [(String, JSONValue)] = [
            ("backend", .text(backend)), ("phase", .text(phase)),
            ("directions", .array(directions.map { .object($0.lagEntries) })),
        ]
        if !standbys.isEmpty { entries.append(("standbys", .array(standbys.map(\.document)))) }
        return .object(entries)
    }

    /// What `lindero status --json` and `/status.json` print: the lag document and everything else that is known.
    public var document: JSONValue {
        .object([
            ("version", .text(version)), ("backend", .text(backend)), ("phase", .text(phase)),
            ("worker", .optional(worker)), ("uptimeSeconds", .optional(uptimeSeconds)),
            ("directions", .array(directions.map { .object($0.lagEntries + $0.detailEntries) })),
            ("standbys", .array(standbys.map(\.document))), ("conflicts", .array(conflicts.map(\.document))),
            ("clock", clock?.document ?? .null),
        ])
    }
}

extension DirectionStatus {
    var lagEntries: [(String, JSONValue)] {
        [
            ("name", .text(name)), ("state", .optional(state?.rawValue)),
            ("receivedLsn", .optional(receivedLSN?.description)), ("appliedLsn", .optional(appliedLSN?.description)),
            ("sourceLsn", .optional(sourceLSN?.description)), ("lagBytes", .optional(lagBytes)),
            ("lagSeconds", .optional(lagSeconds)),
            (
                "endToEnd",
                .object([
                    ("p50Ms", .optional(endToEnd.p50Milliseconds)), ("p95Ms", .optional(endToEnd.p95Milliseconds)),
                    ("p99Ms", .optional(endToEnd.p99Milliseconds)),
                ])
            ),
            ("retainedWalBytes", .optional(retainedWALBytes)), ("safeWalBytes", .optional(safeWALBytes)),
            ("slot", .text(slot)), ("slotActive", .optional(isSlotActive)),
            ("rowsPerSecond", .optional(rowsPerSecond)), ("etaSeconds", .optional(etaSeconds)),
        ]
    }

    var detailEntries: [(String, JSONValue)] {
        [
            ("problem", .optional(problem)), ("slotStatus", .optional(slotStatus)),
            ("copy", copy.map(\.document) ?? .null), ("counters", counters.map(\.document) ?? .null),
        ]
    }
}

extension StandbyStatus {
    var document: JSONValue {
        .object([
            ("name", .text(name)), ("state", .text(state)), ("replayedLsn", .optional(replayedLSN?.description)),
            ("lagBytes", .optional(lagBytes)), ("lagSeconds", .optional(lagSeconds)),
        ])
    }
}

extension CopyStatus {
    var document: JSONValue {
        .object([
            ("tablesDone", .optional(tablesDone)), ("tablesTotal", .optional(tablesTotal)), ("rows", .optional(rows)),
            ("bytes", .optional(bytes)), ("fraction", .number(fraction)),
            ("indexesDone", .optional(indexesDone)), ("indexesTotal", .optional(indexesTotal)),
            ("indexFraction", .number(indexFraction)), ("bytesPerSecond", .optional(bytesPerSecond)), ("etaSeconds", .optional(etaSeconds)),
        ])
    }
}

extension DirectionCounters {
    var document: JSONValue {
        .object([
            ("transactions", .optional(transactions)), ("changes", .optional(changes)),
            ("withheldChanges", .optional(withheldChanges)), ("ignoredChanges", .optional(ignoredChanges)),
            ("missingRows", .optional(missingRows)), ("exactOrderGroups", .optional(exactOrderGroups)),
            ("reconnects", .optional(reconnects)), ("streamedTransactions", .optional(streamedTransactions)),
            ("earlyTransactions", .optional(earlyTransactions)),
            ("spilledBytes", .optional(spilledBytes)),
        ])
    }
}

extension LSN: Decodable {
    public init(from decoder: any Decoder) throws {
        let value = try decoder.singleValueContainer()
        guard let lsn = LSN(try value.decode(String.self)) else {
            throw DecodingError.dataCorruptedError(in: value, debugDescription: "not an LSN")
        }
        self = lsn
    }
}
