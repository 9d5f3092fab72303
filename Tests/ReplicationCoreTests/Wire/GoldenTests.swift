import Testing

@testable import ReplicationCore

/// What real servers of three versions sent, decoded.
@Suite struct GoldenTests {
    @Test func everyKindOfMessageIsInTheGoldenFiles() throws {
        var kinds: Set<String> = []
        for name in GoldenFile.rows + GoldenFile.streamed + GoldenFile.prepared {
            kinds.formUnion(try GoldenFile(name).decode().messages.map(\.kind))
        }
        #expect(
            kinds == [
                "begin", "commit", "origin", "relation", "type", "insert", "update", "delete", "truncate", "message",
                "streamStart", "streamStop", "streamCommit", "streamAbort", "beginPrepare", "prepare", "commitPrepared",
                "rollbackPrepared", "streamPrepare",
            ])
    }

    @Test(arguments: GoldenFile.rows) func rowsAreWhatWasWritten(name: String) throws {
        let (messages, arena) = try GoldenFile(name).decode()
        let isText = name.hasSuffix("text")
        var relations: [UInt32: RelationMessage] = [:]
        var lines: [String] = []
        for message in messages {
            switch message {
            case .relation(let relation, nil): relations[relation.id] = relation
            case .insert(let id, let new, nil):
                lines.append("insert \(relations[id]?.name.name ?? "?") \(arena.words(new).map { $0.prefix(12) }.joined(separator: "|"))")
            case .update(let id, let old, let new, nil):
                let before = old.map { " \($0.kind) \(arena.words($0.tuple).joined(separator: "|")) ->" } ?? ""
                lines.append("update \(relations[id]?.name.name ?? "?")\(before) \(arena.words(new).joined(separator: "|"))")
            case .delete(let id, let old, nil):
                lines.append("delete \(relations[id]?.name.name ?? "?") \(old.kind) \(arena.words(old.tuple).joined(separator: "|"))")
            default: break
            }
        }
        guard isText else {
            // The same changes; an integer has four bytes, text its own.
            #expect(lines.count == 16)
            #expect(lines[0] == "insert by_key 0 0 0 1|6f 6e 65|78 78 78 78 |73 61 64|64 6f 6d")
            return
        }
        #expect(
            lines == [
                "insert by_key 1|one|xxxxxxxxxxxx|sad|dom", "insert by_key 2|∅|∅|∅|∅", "insert by_key -3||small|happy|",
                "update by_key 1|changed|…|sad|dom", "update by_key key 1|∅|∅|∅|∅ -> 10|changed|…|sad|dom",
                "delete by_key key 2|∅|∅|∅|∅", "insert by_index 1|a|1", "update by_index 1|a|2",
                "update by_index key ∅|a|∅ -> 1|b|2", "delete by_index key ∅|b|∅", "insert Full Row 1|x", "insert Full Row ∅|∅",
                "update Full Row full 1|x -> 1|é☃", "delete Full Row full ∅|∅", "insert no_identity 7",
                "insert by_key 5|from elsewhe|∅|∅|∅",
            ])
        let table = try #require(relations.values.first { $0.name.name == "Full Row" })
        #expect(table.replicaIdentity == .full)
        #expect(table.columns.map(\.name) == ["a", "b\"q"])
        #expect(relations.values.first { $0.name.name == "by_index" }?.columns.map(\.isKey) == [false, true, false])
        #expect(relations.values.first { $0.name.name == "no_identity" }?.replicaIdentity == .nothing)
    }

    @Test(arguments: GoldenFile.rows) func flagsPositionsAndOriginsAreRead(name: String) throws {
        let messages = try GoldenFile(name).decode().messages
        var open: LSN?
        var truncations: [String] = []
        var notes: [String] = []
        for message in messages {
            switch message {
            case .begin(let final, let time, let xid):
                #expect(open == nil && xid > 700 && time.unixMicroseconds > 1_700_000_000_000_000 - 1)
                open = final
            case .commit(let commit, let end, _):
                #expect(open == commit && end > commit)
                open = nil
            case .truncate(let ids, let cascade, let restart, nil): truncations.append("\(ids.count) \(cascade) \(restart)")
            case .message(let isTransactional, let lsn, let prefix, let content, nil):
                #expect(lsn > .zero)
                notes.append("\(isTransactional) \(prefix) \(content.count)")
            case .origin(let lsn, let origin): notes.append("\(origin) \(lsn)")
            case .type(_, let schema, let type, nil): notes.append("\(schema).\(type)")
            default: break
            }
        }
        #expect(truncations == ["1 false false", "2 true true"])
        #expect(notes.contains("true prefix 13") && notes.contains("false prefix 2"))
        #expect(notes.contains("elsewhere 0/ABCDEF"))
        // A domain is announced under its own OID, with its base type's name.
        #expect(notes.contains("public.mood") && notes.contains("pg_catalog.varchar"))
    }

    @Test(arguments: GoldenFile.streamed) func streamedTransactionsCarryTheirIds(name: String) throws {
        let (messages, _) = try GoldenFile(name).decode()
        var inside: UInt32?
        var aborts: [(UInt32, UInt32, Bool)] = []
        var commits: [UInt32] = []
        var firsts: [UInt32] = []
        for message in messages {
            switch message {
            case .streamStart(let xid, let isFirst):
                #expect(inside == nil)
                inside = xid
                if isFirst { firsts.append(xid) }
            case .streamStop: inside = nil
            case .insert(_, _, let xid), .relation(_, let xid): #expect(xid != nil || inside == nil)
            case .streamAbort(let xid, let subxid, let lsn, _):
                aborts.append((xid, subxid, lsn != nil))
            case .streamCommit(let xid, let commit, let end, _):
                #expect(end > commit)
                commits.append(xid)
            default: break
            }
        }
        #expect(commits.count == 1 && firsts.contains(commits[0]))
        // A savepoint was rolled back inside the transaction that committed.
        #expect(aborts.contains { $0.0 == commits[0] && $0.1 != $0.0 })
        #expect(aborts.allSatisfy { $0.2 == name.hasSuffix("parallel") })
    }

    @Test(arguments: GoldenFile.prepared) func twoPhaseMessagesNameTheirTransaction(name: String) throws {
        var lines: [String] = []
        for message in try GoldenFile(name).decode().messages {
            switch message {
            case .beginPrepare(_, _, _, _, let gid): lines.append("begin \(gid)")
            case .prepare(let lsn, let end, _, _, let gid):
                #expect(end > lsn)
                lines.append("prepare \(gid)")
            case .commitPrepared(_, _, _, _, let gid): lines.append("commit \(gid)")
            case .rollbackPrepared(_, _, let prepared, let rolledBack, _, let gid):
                #expect(rolledBack >= prepared)
                lines.append("rollback \(gid)")
            case .streamPrepare(_, _, _, _, let gid): lines.append("stream \(gid)")
            default: break
            }
        }
        for expected in [
            "begin gid one", "prepare gid one", "commit gid one", "rollback gid two", "stream gid three", "commit gid three",
        ] { #expect(lines.contains(expected), "\(lines)") }
    }
}
