import ReplicationCore
import Replicator

/// A direction's status in one line.
enum WorkerStatus {
    static func line(_ name: String, _ snapshot: DirectionSnapshot) -> String {
        if snapshot.phase == .copying, let copy = snapshot.copy { return "\(name) \(copyText(copy))" }
        var parts = ["\(name) \(snapshot.phase.rawValue)", "lag \(PlainText.bytes(snapshot.lag.lagBytes))"]
        if let seconds = snapshot.lag.lagSeconds(atMilliseconds: Monotonic.milliseconds()) {
            parts.append(PlainText.seconds(seconds))
        }
        parts.append("\(snapshot.counters.changes) changes")
        if let eta = snapshot.lag.etaSeconds, eta > 1 { parts.append("caught up in \(PlainText.seconds(eta))") }
        if snapshot.reconnects > 0 { parts.append("\(snapshot.reconnects) reconnects") }
        return parts.joined(separator: ", ")
    }

    private static func copyText(_ copy: CopyProgress) -> String {
        var text: String
        switch copy.step {
        case .data:
            text = "copying \(bar(copy.fraction)), \(copy.tablesDone)/\(copy.tablesTotal) tables, "
            text += "\(copy.rows) rows, \(PlainText.bytes(copy.bytes)), \(PlainText.bytes(copy.bytesPerSecond))/s"
        case .indexes:
            text = "building indexes \(bar(copy.indexFraction)), \(copy.indexesDone)/\(copy.indexesTotal) indexes and constraints"
        }
        if let eta = copy.etaSeconds { text += ", \(PlainText.seconds(eta)) left" }
        return text
    }

    static func bar(_ fraction: Double) -> String {
        let cells = 20
        let filled = Int(fraction * Double(cells))
        return "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: cells - filled)
            + "] \(Int(fraction * 100))%"
    }
}
