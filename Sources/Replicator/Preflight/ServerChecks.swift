import ReplicationCore

/// Judges one server in its part: source of a stream, or target of one.
struct ServerChecks {
    let database: String
    let facts: ServerFacts
    let configuration: LinderoConfiguration
    /// Slots that Lindero made itself, under the names it gives them.
    let ownSlots: Set<String>
    let longTransactionSeconds: Int

    private var replication: ReplicationSettings { configuration.replication }
    /// In `shared` the change feed alone needs these things, and everything else works without it.
    private var severity: PreflightFinding.Severity { configuration.backend == .shared ? .warning : .blocker }
    private var makesSlot: Bool {
        (replication.slot == nil || configuration.backend == .shared) && !facts.slots.contains { ownSlots.contains($0.name) }
    }

    func version() -> [PreflightFinding] {
        guard let failure = SupportedVersion.failure(facts.version) else { return [] }
        return [finding(.blocker, .serverVersion, failure.message, fix: failure.nextStep)]
    }

    func source() -> [PreflightFinding] {
        twoPhaseAtSource() + standbyAsSource() + walLevel() + outputPlugin() + slots() + senders() + replicationPrivilege()
            + lostSlots() + retention() + waiting()
            + contents()
    }

    func target() -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        if facts.isInRecovery {
            findings.append(
                finding(
                    .blocker, .standbyTarget, "the server is a physical standby, which nobody can write to",
                    fix:
                        "add physical_standby: true under databases.\(database), or point its url at the primary"
                ))
        }
        if facts.originLimit == 0 {
            findings.append(
                finding(
                    .blocker, .originSlots, "no replication origin can be used: the server allows none",
                    fix: "\(alter(originSetting, "10")) then restart the server"))
        } else if facts.usedOrigins >= facts.originLimit {
            findings.append(
                finding(
                    .warning, .originSlots,
                    "\(facts.usedOrigins) replication origins exist and \(facts.originLimit) can be in use at once",
                    fix: "\(alter(originSetting, "\(facts.usedOrigins + 5)")) then restart the server"))
        }
        return findings + twoPhaseOnTarget() + targetPrivileges()
    }

    private func twoPhaseAtSource() -> [PreflightFinding] {
        guard replication.twoPhase, facts.version < 150_000 else { return [] }
        return [
            finding(
                .blocker, .serverVersion, "two_phase: true needs PostgreSQL 15 or newer here",
                fix: "take two_phase out of replication: a prepared transaction then comes at its commit")
        ]
    }

    private func twoPhaseOnTarget() -> [PreflightFinding] {
        guard replication.twoPhase, facts.preparedLimit == 0 else { return [] }
        return [
            finding(
                .blocker, .preparedDisabled,
                "two_phase: true, and the server allows no prepared transactions (max_prepared_transactions = 0)",
                fix: "\(alter("max_prepared_transactions", "20")) then restart the server; let it be as many as the source allows")
        ]
    }

    private var originSetting: String {
        facts.version >= 180_000 ? "max_active_replication_origins" : "max_replication_slots"
    }

    private func targetPrivileges() -> [PreflightFinding] {
        let user = SQLText.identifier(facts.user)
        var findings: [PreflightFinding] = []
        if !facts.maySetReplicationRole {
            let fix =
                facts.version >= 150_000
                ? "GRANT SET ON PARAMETER session_replication_role TO \(user);"
                : "ALTER ROLE \(user) SUPERUSER;"
            findings.append(
                finding(
                    .blocker, .targetPrivilege, object: facts.user,
                    "role \(facts.user) may not set session_replication_role, so triggers would fire a second time",
                    fix: fix))
        }
        if !facts.mayUseOrigins {
            let functions = [
                "create(text)", "drop(text)", "oid(text)", "progress(text, boolean)", "session_setup(text)",
                "session_reset()", "session_is_setup()", "session_progress(boolean)",
                "xact_setup(pg_lsn, timestamptz)", "xact_reset()", "advance(text, pg_lsn)",
            ]
            let list = functions.map { "pg_catalog.pg_replication_origin_\($0)" }.joined(separator: ", ")
            findings.append(
                finding(
                    .blocker, .targetPrivilege, object: facts.user,
                    "role \(facts.user) may not keep its progress in a replication origin",
                    fix: "GRANT EXECUTE ON FUNCTION \(list) TO \(user);"))
        }
        return findings
    }

    private func standbyAsSource() -> [PreflightFinding] {
        guard facts.isInRecovery else { return [] }
        if facts.version < 160_000 {
            return [
                finding(
                    severity, .standbySource,
                    "the server is a physical standby, and PostgreSQL before 16 can't decode changes on one",
                    fix: "point databases.\(database).url at the primary")
            ]
        }
        if replication.publication != nil { return [] }
        return [
            finding(
                severity, .standbySource,
                "the server is a physical standby, on which no publication can be made",
                fix:
                    "make the publication on the primary and name it under replication.publication, or point "
                    + "databases.\(database).url at the primary")
        ]
    }

    private func walLevel() -> [PreflightFinding] {
        if facts.walLevel == "logical" { return [] }
        let what = configuration.backend == .shared ? "there is no change feed" : "changes can't be read"
        return [
            finding(
                severity, .walLevel, "wal_level is \(facts.walLevel), so \(what); it must be logical",
                fix:
                    "\(alter("wal_level", "logical")) then restart the server (a managed service has a setting of "
                    + "its own, such as rds.logical_replication = 1)")
        ]
    }

    /// Names in a list of libraries.
    static func libraries(_ text: String) -> [String] {
        text.split(separator: ",").map { part in String(part.filter { !$0.isWhitespace && $0 != "\"" }) }.filter { !$0.isEmpty }
    }

    /// Since 16.15, 17.11 and 18.6 PostgreSQL loads only decoders that the administrator lists.
    func outputPlugin() -> [PreflightFinding] {
        guard let trusted = facts.outputPlugins, !trusted.contains("pgoutput") else { return [] }
        let list = (trusted + ["pgoutput"]).joined(separator: ", ")
        return [
            finding(
                severity, .outputPlugin, "output_plugin_libraries does not name pgoutput, so changes can't be read",
                fix: "\(alter("output_plugin_libraries", list)) SELECT pg_reload_conf();")
        ]
    }

    private func slots() -> [PreflightFinding] {
        guard makesSlot, facts.slots.count >= facts.slotLimit else { return [] }
        return [
            finding(
                severity, .replicationSlots,
                "no replication slot is free: \(facts.slots.count) of \(facts.slotLimit) (max_replication_slots) exist",
                fix:
                    "\(alter("max_replication_slots", "\(facts.slots.count + 5)")) then restart the server; or drop "
                    + "one that nobody needs: SELECT pg_drop_replication_slot('NAME');")
        ]
    }

    /// A slot that is adopted is judged with what is adopted.
    private func lostSlots() -> [PreflightFinding] {
        facts.slots.filter { $0.isLost && ownSlots.contains($0.name) && $0.name != replication.slot }.map { slot in
            finding(
                severity, .slotInvalidated, object: slot.name,
                "replication slot \(slot.name) was invalidated: WAL that it needed is gone",
                fix: wayOn(without: slot.name))
        }
    }

    private func wayOn(without slot: String) -> String {
        let drop = "SELECT pg_drop_replication_slot(\(SQLText.literal(slot)));"
        switch configuration.backend {
        case .shared: return "\(drop) then lindero run makes it anew"
        case .replica:
            return "lindero migrate --down, empty the other database's tables, \(drop) then lindero run copies anew; let max_slot_wal_keep_size "
                + "be larger first"
        case .split: return "lindero slot renew \(database), which says what will be missing; let max_slot_wal_keep_size be larger first"
        }
    }

    private func senders() -> [PreflightFinding] {
        let isStreaming = facts.slots.contains { ownSlots.contains($0.name) && $0.isActive }
        guard !isStreaming, facts.usedSenders >= facts.senderLimit else { return [] }
        return [
            finding(
                severity, .walSenders,
                "no WAL sender is free: \(facts.usedSenders) of \(facts.senderLimit) (max_wal_senders) are in use",
                fix: "\(alter("max_wal_senders", "\(facts.usedSenders + 5)")) then restart the server")
        ]
    }

    private func replicationPrivilege() -> [PreflightFinding] {
        if facts.mayReplicate { return [] }
        return [
            finding(
                severity, .replicationPrivilege, object: facts.user,
                "role \(facts.user) may not replicate",
                fix: "ALTER ROLE \(SQLText.identifier(facts.user)) REPLICATION;")
        ]
    }

    private func retention() -> [PreflightFinding] {
        var findings: [PreflightFinding] = []
        if facts.slotRetentionMegabytes < 0 {
            let megabytes = max(64, configuration.gates.maxRetainedWALBytes / 1_048_576)
            findings.append(
                finding(
                    .warning, .slotRetention,
                    "a slot that nobody reads keeps WAL without limit and can fill the disk of the source",
                    fix: "\(alter("max_slot_wal_keep_size", "\(megabytes)MB")) SELECT pg_reload_conf();"))
        }
        if facts.idleSlotTimeoutSeconds > 0 {
            findings.append(
                finding(
                    .warning, .idleSlotTimeout,
                    "slots unused for \(facts.idleSlotTimeoutSeconds) s are invalidated; a longer stop of Lindero "
                        + "would need a new copy",
                    fix: "\(alter("idle_replication_slot_timeout", "0")) SELECT pg_reload_conf();"))
        }
        return findings
    }

    /// What a new slot would wait for.
    private func waiting() -> [PreflightFinding] {
        guard makesSlot else { return [] }
        var findings = facts.preparedTransactions.map { gid in
            let name = SQLText.literal(gid)
            return finding(
                severity, .preparedTransaction, object: gid,
                "prepared transaction \(name) is open, and a new slot waits until it ends",
                fix: "COMMIT PREPARED \(name); or ROLLBACK PREPARED \(name); in the database it belongs to")
        }
        for open in facts.openTransactions where open.ageSeconds >= longTransactionSeconds {
            let name = open.application.isEmpty ? "" : " (\(open.application))"
            findings.append(
                finding(
                    .warning, .longTransaction, object: "\(open.pid)",
                    "process \(open.pid)\(name) has had a writing transaction open for \(open.ageSeconds) s, and a "
                        + "new slot waits until it ends",
                    fix: "wait for it, or SELECT pg_terminate_backend(\(open.pid));"))
        }
        return findings
    }

    private func contents() -> [PreflightFinding] {
        guard facts.hasLargeObjects, configuration.backend != .shared else { return [] }
        return [
            finding(
                .warning, .largeObjects,
                "the database has large objects, and PostgreSQL does not replicate those",
                fix: "copy them apart, or keep the data in a bytea column")
        ]
    }

    /// The configuration's roles: does each exist, and is it one that privileges bind?
    func roles() -> [PreflightFinding] {
        let known = facts.roles
        return (configuration.database(database)?.roles ?? []).compactMap { name in
            guard let role = known.first(where: { $0.name == name }) else {
                return finding(
                    .blocker, .roleMissing, object: name, "role \(name) does not exist",
                    fix:
                        "CREATE ROLE \(SQLText.identifier(name)) LOGIN; or correct databases.\(database).roles"
                )
            }
            guard role.isSuperuser else { return nil }
            return finding(
                .warning, .roleTooStrong, object: name,
                "role \(name) is a superuser, whom no privilege stops: ownership can't be enforced on it",
                fix: "ALTER ROLE \(SQLText.identifier(name)) NOSUPERUSER;")
        }
    }

    private func alter(_ setting: String, _ value: String) -> String {
        "ALTER SYSTEM SET \(setting) = '\(value)';"
    }

    private func finding(
        _ severity: PreflightFinding.Severity, _ code: PreflightFinding.Code, object: String? = nil,
        _ message: String, fix: String? = nil
    ) -> PreflightFinding {
        PreflightFinding(severity, code, database: database, object: object, message, fix: fix)
    }
}
