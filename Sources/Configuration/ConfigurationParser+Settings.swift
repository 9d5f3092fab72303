import ReplicationCore
import Yams

/// `defaults`, `gates`, `replication` and `verify`.
extension ConfigurationParser {
    mutating func defaults(_ node: Node) -> Defaults {
        var defaults = Defaults()
        for entry in entries(node, of: "defaults", keys: ["unlisted_column", "conflict"]) {
            let place = "defaults.\(entry.key)"
            switch entry.key {
            case "unlisted_column":
                defaults.unlistedColumn = choice(entry.value, of: place) ?? defaults.unlistedColumn
            default:
                saysConflict = true
                guard let policy = choice(entry.value, of: place, as: SharedColumnRule.Policy.self) else {
                    continue
                }
                if policy == .prefer {
                    report("\(place) can't be prefer, which needs a side for each column", at: entry.value)
                } else {
                    defaults.conflict = policy
                }
            }
        }
        return defaults
    }

    mutating func gates(_ node: Node) -> Gates {
        var gates = Gates()
        let keys = [
            "max_lag", "max_lag_bytes", "verify_age", "max_clock_offset", "cutover_timeout",
            "max_retained_wal", "observe",
        ]
        for entry in entries(node, of: "gates", keys: keys) {
            let place = "gates.\(entry.key)"
            switch entry.key {
            case "max_lag":
                gates.maxLagMilliseconds = milliseconds(entry.value, of: place) ?? gates.maxLagMilliseconds
            case "max_lag_bytes":
                gates.maxLagBytes = bytes(entry.value, of: place) ?? gates.maxLagBytes
            case "verify_age":
                gates.verifyAgeSeconds = seconds(entry.value, of: place) ?? gates.verifyAgeSeconds
            case "max_clock_offset":
                gates.maxClockOffsetMilliseconds =
                    milliseconds(entry.value, of: place) ?? gates.maxClockOffsetMilliseconds
            case "cutover_timeout":
                gates.cutoverTimeoutSeconds = seconds(entry.value, of: place) ?? gates.cutoverTimeoutSeconds
            case "observe":
                gates.observeSeconds = seconds(entry.value, of: place) ?? gates.observeSeconds
            default:
                gates.maxRetainedWALBytes = bytes(entry.value, of: place) ?? gates.maxRetainedWALBytes
            }
        }
        return gates
    }

    mutating func replication(_ node: Node) -> ReplicationSettings {
        var settings = ReplicationSettings()
        let keys = [
            "snapshot", "slot", "publication", "ddl", "missing_row", "heartbeat", "memory_limit", "group",
            "copy", "omit_foreign_columns", "sequences", "streaming", "spill_dir", "two_phase",
            "apply_sessions",
        ]
        let entries = entries(node, of: "replication", keys: keys)
        for entry in entries {
            let place = "replication.\(entry.key)"
            let value = entry.value
            switch entry.key {
            case "snapshot": settings.snapshot = choice(value, of: place) ?? settings.snapshot
            case "slot": settings.slot = slotName(value, of: place)
            case "publication": settings.publication = word(value, of: place)?.text
            case "ddl": settings.ddl = choice(value, of: place) ?? settings.ddl
            case "missing_row": settings.missingRow = choice(value, of: place) ?? settings.missingRow
            case "heartbeat":
                settings.heartbeatMilliseconds = heartbeat(value, of: place) ?? settings.heartbeatMilliseconds
            case "memory_limit":
                settings.memoryLimitBytes = memoryLimit(value, of: place) ?? settings.memoryLimitBytes
            case "sequences":
                settings.sequences = choice(value, of: place) ?? settings.sequences
            case "group":
                settings.group = group(value, of: place)
            case "apply_sessions": settings.applySessions = count(value, of: place, in: 1...2) ?? settings.applySessions
            case "streaming": settings.streaming = choice(value, of: place) ?? settings.streaming
            case "two_phase": settings.twoPhase = twoPhase(entry, of: place)
            case "spill_dir": settings.spillDirectory = folder(value, of: place)
            case "copy":
                settings.copy = copy(value, of: place)
            default:
                settings.omitForeignColumns = flag(value, of: place) ?? settings.omitForeignColumns
            }
        }
        checkAdoption(settings, entries: entries)
        checkGroup(settings, entries: entries)
        return settings
    }

    mutating func verify(_ node: Node) -> VerifySettings {
        var settings = VerifySettings()
        for entry in entries(node, of: "verify", keys: ["jobs", "chunk_rows", "rate_limit"]) {
            let place = "verify.\(entry.key)"
            switch entry.key {
            case "jobs": settings.jobs = count(entry.value, of: place, in: 1...64) ?? settings.jobs
            case "chunk_rows": settings.chunkRows = count(entry.value, of: place, in: 1...1_000_000) ?? settings.chunkRows
            default: settings.rateLimitBytes = rateLimit(entry.value, of: place) ?? settings.rateLimitBytes
            }
        }
        return settings
    }

    private mutating func twoPhase(_ entry: Entry, of place: String) -> Bool {
        let isWanted = flag(entry.value, of: place) ?? false
        if isWanted && backend != .replica {
            report("\(place) goes with backend replica, but the backend is \(backend.rawValue)", at: entry.keyNode)
        }
        return isWanted
    }

    private mutating func group(_ node: Node, of place: String) -> GroupSettings {
        var group = GroupSettings()
        for entry in entries(node, of: place, keys: ["max_bytes", "max_changes"]) {
            let name = "\(place).\(entry.key)"
            switch entry.key {
            case "max_bytes": group.maximumBytes = bytes(entry.value, of: name, atLeast: "64kB", 64_000)
            default: group.maximumChanges = count(entry.value, of: name, in: 1...10_000_000) ?? group.maximumChanges
            }
        }
        return group
    }

    private mutating func checkGroup(_ settings: ReplicationSettings, entries: [Entry]) {
        guard let bytes = settings.group.maximumBytes, bytes > settings.largestGroupBytes,
            let entry = entries.first(where: { $0.key == "group" })
        else { return }
        report(
            "replication.group.max_bytes must be at most a quarter of memory_limit, here "
                + "\(settings.largestGroupBytes / 1_000) kB; raise memory_limit or lower it", at: entry.value)
    }

    private mutating func copy(_ node: Node, of place: String) -> CopySettings {
        var copy = CopySettings()
        for entry in entries(node, of: place, keys: ["jobs", "rate_limit", "chunk_size", "index_memory"]) {
            let name = "\(place).\(entry.key)"
            switch entry.key {
            case "jobs": copy.jobs = count(entry.value, of: name, in: 1...64) ?? copy.jobs
            case "rate_limit": copy.rateLimitBytes = rateLimit(entry.value, of: name) ?? copy.rateLimitBytes
            case "chunk_size":
                copy.chunkBytes = bytes(entry.value, of: name, atLeast: "1MB", 1_000_000) ?? copy.chunkBytes
            default:
                copy.indexMemoryBytes =
                    bytes(entry.value, of: name, atLeast: "1MB", 1_000_000) ?? copy.indexMemoryBytes
            }
        }
        return copy
    }

    /// Bytes a second, with or without the `/s`; below 100 kB a copy would look as if it stood still.
    private mutating func rateLimit(_ node: Node, of place: String) -> Int? {
        if case .scalar(let scalar) = node {
            if scalar.string == "off" { return 0 }
            if scalar.string.hasSuffix("/s") {
                let plain = Node.scalar(.init(String(scalar.string.dropLast(2)), scalar.tag, scalar.style, scalar.mark))
                return bytes(plain, of: place, atLeast: "100kB a second, or off", 100_000)
            }
        }
        return bytes(node, of: place, atLeast: "100kB a second, or off", 100_000)
    }

    private mutating func bytes(_ node: Node, of place: String, atLeast words: String, _ least: Int) -> Int? {
        guard let value = bytes(node, of: place) else { return nil }
        if value >= least { return value }
        report("\(place) must be at least \(words)", at: node)
        return nil
    }

    private mutating func checkAdoption(_ settings: ReplicationSettings, entries: [Entry]) {
        guard settings.slot != nil, let entry = entries.first(where: { $0.key == "slot" }) else { return }
        if settings.snapshot == .initial {
            report(
                "replication.slot adopts a slot that exists, and such a slot has no snapshot to copy from; "
                    + "add snapshot: never, or leave slot out so that Lindero makes its own",
                at: entry.keyNode)
        }
        if settings.publication == nil {
            report(
                "replication.slot needs replication.publication: the slot can only decode with a publication that "
                    + "is as old as it is", at: entry.keyNode)
        }
    }

    private mutating func slotName(_ node: Node, of place: String) -> String? {
        guard let word = word(node, of: place) else { return nil }
        let isValid =
            word.text.utf8.count <= 63
            && word.text.unicodeScalars.allSatisfy {
                ("a"..."z").contains($0) || ("0"..."9").contains($0) || $0 == "_"
            }
        if isValid { return word.text }
        report("\(place) is \"\(word.text)\", but a slot's name is at most 63 of a-z, 0-9 and _", at: node)
        return nil
    }

    /// Relative to what would depend on how the worker is started.
    mutating func folder(_ node: Node, of place: String, such example: String = "/var/lib/lindero") -> String? {
        guard let word = word(node, of: place, expected: "an absolute path") else { return nil }
        if word.text.hasPrefix("/") { return word.text }
        report("\(place) is \"\(word.text)\", but must be an absolute path such as \(example)", at: node)
        return nil
    }

    private mutating func heartbeat(_ node: Node, of place: String) -> Int? {
        if case .scalar(let scalar) = node, scalar.string == "off" { return 0 }
        return milliseconds(node, of: place)
    }

    /// Below a megabyte not even one wide row fits.
    private mutating func memoryLimit(_ node: Node, of place: String) -> Int? {
        bytes(node, of: place, atLeast: "1MB", 1_000_000)
    }
}
