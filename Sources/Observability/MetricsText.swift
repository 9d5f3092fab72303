import ReplicationCore

/// A status in Prometheus' text format. Labels hold names of directions and slots, never row values.
struct MetricsText {
    private(set) var text = ""

    init(_ snapshot: StatusSnapshot) {
        let labels = [("version", snapshot.version), ("backend", snapshot.backend), ("phase", snapshot.phase)]
        add("lindero_info", .gauge, "The worker's version and backend.", [(labels, 1)])
        add("lindero_uptime_seconds", .gauge, "Since the worker started.", [([], snapshot.uptimeSeconds)])
        addStates(snapshot.directions)
        addLag(snapshot.directions)
        addPositions(snapshot.directions)
        addCounters(snapshot.directions)
        addCopy(snapshot.directions)
        addStandbys(snapshot.standbys)
        addConflicts(snapshot.conflicts)
        addClock(snapshot.clock)
    }

    private enum Kind: String { case gauge, counter }
    private typealias Labels = [(name: String, value: String)]

    /// A metric without any known value is left out.
    private mutating func add(
        _ name: String, _ kind: Kind, _ help: String, _ values: [(labels: Labels, value: Double?)]
    ) {
        let known = values.compactMap { entry in entry.value.map { (entry.labels, $0) } }
        guard !known.isEmpty else { return }
        text += "# HELP \(name) \(help)\n# TYPE \(name) \(kind.rawValue)\n"
        for (labels, value) in known {
            let inside = labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }.joined(separator: ",")
            text += name + (inside.isEmpty ? "" : "{\(inside)}") + " \(Self.number(value))\n"
        }
    }

    private mutating func add(
        _ name: String, _ kind: Kind, _ help: String, _ directions: [DirectionStatus],
        _ value: (DirectionStatus) -> Double?
    ) {
        add(name, kind, help, directions.map { ([("direction", $0.name)], value($0)) })
    }

    static func escaped(_ value: String) -> String {
        var text = ""
        for character in value.unicodeScalars {
            switch character {
            case "\\": text += "\\\\"
            case "\"": text += "\\\""
            case "\n": text += "\\n"
            default: text.unicodeScalars.append(character)
            }
        }
        return text
    }

    /// Whole numbers without a fraction: LSNs must not lose digits to an exponent.
    static func number(_ value: Double) -> String {
        guard value.isFinite else { return value.isNaN ? "NaN" : value > 0 ? "+Inf" : "-Inf" }
        return Int64(exactly: value).map { "\($0)" } ?? "\(value)"
    }
}

// MARK: what is told

extension MetricsText {
    private mutating func addStates(_ directions: [DirectionStatus]) {
        let states = directions.flatMap { direction in
            DirectionPhase.allCases.map { state -> (labels: Labels, value: Double?) in
                let labels = [("direction", direction.name), ("state", state.rawValue)]
                return (labels, direction.state == state ? 1 : 0)
            }
        }
        add("lindero_direction_state", .gauge, "1 for the state that a direction is in.", states)
    }

    private mutating func addLag(_ directions: [DirectionStatus]) {
        add("lindero_lag_bytes", .gauge, "Source's log that is not applied yet.", directions) {
            $0.lagBytes.map { Double($0) }
        }
        add("lindero_lag_seconds", .gauge, "Age of what the target shows, by heartbeats.", directions, \.lagSeconds)
        let quantiles: [(String, KeyPath<EndToEndLatency, Double?>)] = [
            ("0.5", \.p50Milliseconds), ("0.95", \.p95Milliseconds), ("0.99", \.p99Milliseconds),
        ]
        let latencies = directions.flatMap { direction in
            quantiles.map { quantile, path -> (labels: Labels, value: Double?) in
                let labels = [("direction", direction.name), ("quantile", quantile)]
                return (labels, direction.endToEnd[keyPath: path].map { $0 / 1_000 })
            }
        }
        add("lindero_end_to_end_seconds", .gauge, "From commit to visible on the target.", latencies)
        add("lindero_rows_per_second", .gauge, "Changes applied a second, smoothed.", directions, \.rowsPerSecond)
        add("lindero_eta_seconds", .gauge, "Until caught up at the present rate.", directions, \.etaSeconds)
    }

    private mutating func addPositions(_ directions: [DirectionStatus]) {
        let positions: [(String, KeyPath<DirectionStatus, LSN?>)] = [
            ("source", \.sourceLSN), ("received", \.receivedLSN), ("applied", \.appliedLSN),
        ]
        for (name, path) in positions {
            add("lindero_\(name)_lsn_bytes", .gauge, "The \(name) LSN as a byte offset.", directions) {
                $0[keyPath: path].map { Double($0.rawValue) }
            }
        }
        add("lindero_slot_active", .gauge, "1 when the slot has a reader.", directions) {
            $0.isSlotActive.map { $0 ? 1 : 0 }
        }
        add("lindero_slot_lost", .gauge, "1 when the slot was invalidated.", directions) {
            $0.slotStatus.map { $0 == "lost" ? 1 : 0 }
        }
        add("lindero_slot_retained_wal_bytes", .gauge, "Log that the slot keeps from removal.", directions) {
            $0.retainedWALBytes.map { Double($0) }
        }
        add("lindero_slot_safe_wal_bytes", .gauge, "Log until the slot is lost.", directions) {
            $0.safeWALBytes.map { Double($0) }
        }
    }

    private mutating func addCounters(_ directions: [DirectionStatus]) {
        let counters: [(String, String, KeyPath<DirectionCounters, Int>)] = [
            ("transactions", "Source transactions applied.", \.transactions),
            ("changes", "Source changes applied.", \.changes),
            ("withheld_changes", "Changes dropped: only columns that stay behind.", \.withheldChanges),
            ("ignored_changes", "Changes dropped: table not in the direction.", \.ignoredChanges),
            ("missing_rows", "Updates and deletes without a row on the target.", \.missingRows),
            ("exact_order_groups", "Groups applied again in exact order.", \.exactOrderGroups),
            ("reconnects", "Streams lost and tried again.", \.reconnects),
            ("streamed_transactions", "Transactions that came while they ran.", \.streamedTransactions),
            ("early_transactions", "Of these, transactions that were applied while they ran.", \.earlyTransactions),
            ("spilled_bytes", "Bytes of running transactions written to files.", \.spilledBytes),
        ]
        for (name, help, path) in counters {
            add("lindero_\(name)_total", .counter, help, directions) {
                $0.counters.map { Double($0[keyPath: path]) }
            }
        }
    }

    private mutating func addCopy(_ directions: [DirectionStatus]) {
        add("lindero_copy_fraction", .gauge, "Initial copy, 0 to 1.", directions) { $0.copy?.fraction }
        add("lindero_copy_rows", .gauge, "Rows of the initial copy so far.", directions) {
            ($0.copy?.rows).map { Double($0) }
        }
        add("lindero_copy_bytes", .gauge, "Bytes of the initial copy so far.", directions) {
            ($0.copy?.bytes).map { Double($0) }
        }
    }

    private mutating func addStandbys(_ standbys: [StandbyStatus]) {
        add(
            "lindero_standby_lag_bytes", .gauge, "Log that a physical standby does not show yet.",
            standbys.map { ([("standby", $0.name)], $0.lagBytes.map { Double($0) }) })
        add(
            "lindero_standby_lag_seconds", .gauge, "How far a physical standby is behind.",
            standbys.map { ([("standby", $0.name)], $0.lagSeconds) })
    }

    private mutating func addConflicts(_ conflicts: [ConflictStatus]) {
        add(
            "lindero_conflicts_open", .gauge, "Conflicts that wait for a person.",
            conflicts.map { ([("database", $0.database)], Double($0.openCount)) })
        add(
            "lindero_conflicts_oldest_seconds", .gauge, "How long the oldest of them has waited; 0 when there is none.",
            conflicts.map { ([("database", $0.database)], $0.oldestAgeSeconds ?? 0) })
    }

    private mutating func addClock(_ clock: ClockStatus?) {
        guard let clock else { return }
        let labels = [("source", clock.source), ("target", clock.target)]
        add(
            "lindero_clock_offset_seconds", .gauge, "The target's clock minus the source's.",
            [(labels, clock.offsetMilliseconds / 1_000)])
        add(
            "lindero_clock_error_seconds", .gauge, "By how much that can be wrong.",
            [(labels, clock.errorMilliseconds / 1_000)])
    }
}
