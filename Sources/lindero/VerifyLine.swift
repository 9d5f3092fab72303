import ReplicationCore
import Replicator
import Synchronization

/// The progress of a comparison, on a terminal.
final class VerifyLine: Sendable {
    private static let repaintMilliseconds: Int64 = 100

    private let name: String
    private let startedAtMilliseconds = Monotonic.milliseconds()
    private let paintedAtMilliseconds = Mutex<Int64>(-repaintMilliseconds)

    init(name: String) { self.name = name }

    func show(_ event: Verification.Event) {
        switch event {
        case .resumed:
            StatusLine.clear()
            StandardError.write("\(name): taken up where the last comparison ended; --restart begins anew\n")
        case .progress(let progress):
            let elapsedSeconds = Double(Monotonic.milliseconds() - startedAtMilliseconds) / 1_000
            paint(Self.text(name, progress, elapsedSeconds: elapsedSeconds))
        }
    }

    func show(mended: Int, of total: Int) { paint("\(name) mending \(mended)/\(total) rows") }

    static func text(_ name: String, _ progress: VerifyProgress, elapsedSeconds: Double) -> String {
        var text = "\(name) comparing \(WorkerStatus.bar(progress.fraction)), \(progress.tablesDone)/\(progress.tablesTotal) tables, "
        text += "\(PlainText.count(progress.rowsDone)) rows, \(PlainText.rate(progress.rowsPerSecond(elapsedSeconds: elapsedSeconds)))/s"
        if progress.differences > 0 { text += ", \(PlainText.count(progress.differences, "difference"))" }
        if progress.fraction < 1, let eta = progress.etaSeconds(elapsedSeconds: elapsedSeconds) {
            text += ", \(PlainText.seconds(eta)) left"
        }
        return text
    }

    private func paint(_ text: String) {
        guard StandardError.isTerminal else { return }
        let now = Monotonic.milliseconds()
        let isDue = paintedAtMilliseconds.withLock { last in
            if now - last < Self.repaintMilliseconds { return false }
            last = now
            return true
        }
        if isDue { StatusLine.show(text) }
    }
}
