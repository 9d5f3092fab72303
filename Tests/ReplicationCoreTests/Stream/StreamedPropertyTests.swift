import TestSupport
import Testing

@testable import ReplicationCore

/// Random interleavings of streamed and ordinary transactions, with savepoints and aborts, against a server's model.
@Suite struct StreamedPropertyTests {
    @Test func anyInterleavingGivesTheCommittedRowsInCommitOrder() throws {
        let first = UInt64.random(in: 0...UInt64(UInt32.max))
        var (spills, aborts, scopes, early, retracted) = (0, 0, 0, 0, 0)
        for number in 0..<400 {
            let seed = first &+ UInt64(number)
            var server = StreamingServer(seed: seed)
            let messages = server.run(steps: 120)
            var random = SeededGenerator(seed: seed)
            var intake = StreamIntake(
                limitBytes: random.pick([500, 9_000, 40_000, 1 << 20]),
                cutBytes: random.pick([200, 2_000, 1 << 20]))
            if random.chance(60) { intake.early = EarlyReplay(fromLSN: .zero) }
            for message in messages {
                try intake.read(message)
                if random.chance(10) { intake.take() }
            }
            intake.take()
            // One without rows may be passed over.
            let isSame = intake.committed.filter { !$0.rows.isEmpty } == server.committed.filter { !$0.rows.isEmpty }
            #expect(isSame, "seed \(seed)")
            #expect(intake.streamed.count == 0 && intake.files.isEmpty, "seed \(seed)")
            if !isSame { return }
            spills += intake.spills
            aborts += server.savepointAborts
            scopes += server.definitions
            early += intake.earlyCommits
            retracted += intake.retracted
        }
        #expect(spills > 100 && aborts > 100 && scopes > 100)
        #expect(early > 100 && retracted > 100, "\(early) early, \(retracted) retracted")
    }
}

/// What walsender and pgoutput do, as far as the order of messages goes.
struct StreamingServer {
    private struct Level {
        /// Given with the first write, after the parent's.
        var xid: UInt32?
        var firstRow: Int
        /// Ids of released children and their children.
        var released: [UInt32] = []
    }

    private struct Running {
        var levels: [Level]
        var rows: [String] = []
        var isStreamed = false
        var top: UInt32 { levels[0].xid ?? 0 }
    }

    private var random: SeededGenerator
    private var nextXID: UInt32
    private var lsn: UInt64 = 1_000
    private var running: [Running] = []
    private var messages: [[UInt8]] = []
    private var rowCount = 0
    /// Columns of each table, as the publication has them now.
    private var widths = [1, 2, 1]
    private var isSent = [false, false, false]
    private var sentTo: [Set<UInt32>] = [[], [], []]
    private(set) var committed: [StreamIntake.Transaction] = []
    private(set) var savepointAborts = 0
    private(set) var definitions = 0

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        nextXID = random.chance(20) ? .max - 20 : 700
    }

    mutating func run(steps: Int) -> [[UInt8]] {
        for _ in 0..<steps {
            switch random.below(100) {
            case 0..<15: ordinary()
            case 15..<20: alter()
            case 20..<35 where running.count < 5:
                running.append(Running(levels: [Level(xid: newXID(), firstRow: 0)]))
            case 35..<45: if !running.isEmpty { end(random.below(running.count)) }
            default: if !running.isEmpty { segment(random.below(running.count)) }
            }
        }
        while !running.isEmpty { end(0) }
        return messages
    }

    private mutating func newXID() -> UInt32 {
        nextXID = nextXID == .max ? 3 : nextXID + 1
        return nextXID
    }

    private mutating func alter() {
        let table = random.below(3)
        widths[table] = 1 + random.below(3)
        isSent[table] = false
        sentTo[table] = []
    }

    private func columns(_ table: Int) -> [String] { (0..<widths[table]).map { "c\($0)" } }

    /// A row's message, after its table's definition if the receiver lacks it; what the target should say of it.
    private mutating func write(top: UInt32?, xid: UInt32?) -> String {
        let table = random.below(3)
        let isKnown = top.map { sentTo[table].contains($0) } ?? isSent[table]
        if !isKnown {
            messages.append(
                StreamBytes.relation(UInt32(table + 1), "t\(table)", columns: columns(table), xid: xid))
            if let top { sentTo[table].insert(top) } else { isSent[table] = true }
            definitions += 1
        }
        rowCount += 1
        let padding = String(repeating: "p", count: random.chance(5) ? 3_000 : random.below(60))
        let row = (0..<widths[table]).map { "\(rowCount).\($0)\(padding)" }
        messages.append(StreamBytes.insert(UInt32(table + 1), row, xid: xid))
        return "t\(table)(\(columns(table).joined(separator: ","))) \(row.joined(separator: ","))"
    }

    private mutating func ordinary() {
        let xid = newXID()
        lsn += 100
        messages.append(StreamBytes.begin(xid, at: lsn))
        let rows = (0..<random.below(5)).map { _ in write(top: nil, xid: nil) }
        messages.append(StreamBytes.commit(at: lsn))
        committed.append(StreamIntake.Transaction(xid: xid, rows: rows))
    }

    private mutating func segment(_ index: Int) {
        messages.append(StreamBytes.start(running[index].top, first: !running[index].isStreamed))
        running[index].isStreamed = true
        for _ in 0..<random.below(15) {
            switch random.below(10) {
            case 0, 1: running[index].levels.append(Level(xid: nil, firstRow: running[index].rows.count))
            case 2: release(index)
            default:
                let level = giveXID(index)
                running[index].rows.append(write(top: running[index].top, xid: level))
            }
        }
        messages.append(StreamBytes.stop)
        if random.chance(25) { rollBackSavepoint(index) }
    }

    /// The id of the innermost level; every level above it has one by then.
    private mutating func giveXID(_ index: Int) -> UInt32 {
        for level in running[index].levels.indices where running[index].levels[level].xid == nil {
            running[index].levels[level].xid = newXID()
        }
        return running[index].levels.last?.xid ?? 0
    }

    private mutating func release(_ index: Int) {
        guard running[index].levels.count > 1 else { return }
        let level = running[index].levels.removeLast()
        let parent = running[index].levels.count - 1
        running[index].levels[parent].released += level.released + [level.xid].compactMap { $0 }
    }

    private mutating func rollBackSavepoint(_ index: Int) {
        guard running[index].levels.count > 1 else { return }
        // To a savepoint further out: the inner ones end first.
        for _ in 0..<(1 + random.below(running[index].levels.count - 1)) {
            let level = running[index].levels.removeLast()
            running[index].rows.removeLast(running[index].rows.count - level.firstRow)
            guard let xid = level.xid else { continue }
            for id in level.released + [xid] { abort(running[index].top, id) }
            savepointAborts += 1
        }
    }

    private mutating func abort(_ top: UInt32, _ xid: UInt32) {
        messages.append(StreamBytes.abort(top, xid))
        for table in sentTo.indices { sentTo[table].remove(top) }
    }

    private mutating func end(_ index: Int) {
        let transaction = running.remove(at: index)
        lsn += 100
        guard transaction.isStreamed else { return }
        if random.chance(25) {
            let ids = transaction.levels.flatMap { $0.released + [$0.xid].compactMap { $0 } }
            for id in ids where id != transaction.top { abort(transaction.top, id) }
            return abort(transaction.top, transaction.top)
        }
        messages.append(StreamBytes.commit(transaction.top, at: lsn))
        committed.append(StreamIntake.Transaction(xid: transaction.top, rows: transaction.rows))
        for table in sentTo.indices where sentTo[table].remove(transaction.top) != nil {
            isSent[table] = true
        }
    }
}
