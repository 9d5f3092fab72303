import Foundation
import Logging

/// One line a log message on stderr: time, level, message, `key=value`.
struct LineLogHandler: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?

    /// The logger of a command; `LINDERO_LOG_LEVEL` (trace … critical) decides how much it says.
    static func logger(_ environment: [String: String] = ProcessInfo.processInfo.environment) -> Logger {
        let level = environment["LINDERO_LOG_LEVEL"].flatMap { Logger.Level(rawValue: $0.lowercased()) }
        return Logger(label: "lindero") { _ in LineLogHandler(logLevel: level ?? .info) }
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var all = metadata
        all.merge(metadataProvider?.get() ?? [:]) { _, new in new }
        all.merge(event.metadata ?? [:]) { _, new in new }
        var line = "\(Date.now.formatted(.iso8601)) \(event.level) \(event.message)"
        for (key, value) in all.sorted(by: { $0.key < $1.key }) { line += " \(key)=\(Self.quoted("\(value)"))" }
        StatusLine.clear()
        StandardError.write(line + "\n")
    }

    private static func quoted(_ value: String) -> String {
        let isPlain = !value.isEmpty && !value.contains { $0 == " " || $0 == "\"" || $0 == "=" || $0.isNewline }
        return isPlain ? value : "\"" + value.map { $0.isNewline ? "\\n" : $0 == "\"" ? "\\\"" : "\($0)" }.joined() + "\""
    }
}
