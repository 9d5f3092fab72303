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

    /// Where two servers that may be copies of one another went different ways.
    public enum Parting: Sendable, Equatable {
        /// They are on one timeline, as far as their histories tell.
        case none
        /// The one left the other's history here: it holds everything before, and nothing after.
        case left(LSN)
        /// The one went on past the place where the other's history ends or turns off: it has what the other lost.
        case beyond(LSN)
    }

    /// How a server parted from another, whose history is this.
    ///
    /// - Parameters:
    ///   - current: this history's timeline now.
    ///   - server: the history of the server that may have left it, such as a promoted standby.
    ///   - serverCurrent: that server's timeline now.
    public func parting(current: Int, of server: TimelineHistory, serverCurrent: Int) -> Parting {
        let ours = lineage(current)
        let theirs = server.lineage(serverCurrent)
        var shared: LSN?
        for (our, their) in zip(ours, theirs) {
            guard our.timeline == their.timeline else { break }
            switch (our.end, their.end) {
            case (nil, nil): return .none
            case (nil, let end?): return .left(end)
            case (let end?, nil): return .beyond(end)
            case (let our?, let their?) where our == their: shared = our
            case (let our?, let their?): return their < our ? .left(their) : .beyond(our)
            }
        }
        return shared.map { .left($0) } ?? .none
    }

    /// Every timeline that a server was on, oldest first, and where it left it.
    private func lineage(_ current: Int) -> [(timeline: Int, end: LSN?)] {
        switchPoints.filter { $0.key < current }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } + [(current, nil)]
    }
}
