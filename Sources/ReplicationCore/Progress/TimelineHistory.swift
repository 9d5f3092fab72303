/// Where a server's history left each earlier timeline, from the answer to `TIMELINE_HISTORY`.
public struct TimelineHistory: Sendable, Equatable {
    /// WAL before the position belongs to both timelines.
    public var switchPoints: [Int: LSN] = [:]

    public init(switchPoints: [Int: LSN] = [:]) { self.switchPoints = switchPoints }

    /// Reads a history file: a line for each earlier timeline, with its number, a position and a reason.
    public init(text: String) {
        for line in text.split(separator: "\n") {
            let words = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
            guard words.count >= 2, let timeline = Int(words[0]), let lsn = LSN(String(words[1])) else { continue }
            switchPoints[timeline] = lsn
        }
    }

    /// Whether a target may go on from a server.
    public enum Verdict: Sendable, Equatable {
        case same
        /// The server went on from a history that holds everything the target has.
        case continued
        /// The target has changes that the server's history lacks.
        case beyondSwitch(LSN)
        /// The server's history never was on the target's timeline.
        case unrelated
    }

    /// - Parameters:
    ///   - known: the timeline that the target's changes came from.
    ///   - current: the server's timeline now.
    public func verdict(known: Int, current: Int, appliedLSN: LSN) -> Verdict {
        if known == current { return .same }
        guard let switchPoint = switchPoints[known] else { return .unrelated }
        return appliedLSN <= switchPoint ? .continued : .beyondSwitch(switchPoint)
    }
}
