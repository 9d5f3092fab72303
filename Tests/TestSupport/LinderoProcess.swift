import Foundation
import Glibc

/// The `lindero` program that was built beside the tests.
public enum LinderoProcess {
    public struct Outcome: Sendable {
        public let exitCode: Int32
        /// What it printed on stdout.
        public let output: String
        /// What it printed on stderr.
        public let errors: String

        public init(exitCode: Int32, output: String, errors: String) {
            (self.exitCode, self.output, self.errors) = (exitCode, output, errors)
        }
    }

    public struct NotBuilt: Error, CustomStringConvertible {
        public let description = "The program lindero is not beside the tests. Run swift build."
    }

    /// Runs to the end.
    ///
    /// - Parameters:
    ///   - environment: in addition to a small fixed one; nothing of the test's own leaks in.
    ///   - input: bytes for stdin, which is then closed.
    public static func run(
        _ arguments: [String], environment: [String: String] = [:], folder: String? = nil, input: [UInt8]? = nil,
        timeoutSeconds: Double = 60
    ) async throws -> Outcome {
        let process = try start(arguments, environment: environment, folder: folder)
        if let input { process.child.write(input) }
        process.child.closeInput()
        let exitCode = try await process.wait(timeoutSeconds: timeoutSeconds)
        return Outcome(exitCode: exitCode, output: process.output, errors: process.errors)
    }

    /// Starts it and comes back at once.
    public static func start(
        _ arguments: [String], environment: [String: String] = [:], folder: String? = nil
    ) throws -> RunningLindero {
        var values = ["PATH": "/usr/bin:/bin", "HOME": NSTemporaryDirectory(), "LANG": "C.UTF-8"]
        values.merge(environment) { _, new in new }
        // A shell changes to the folder first: a spawned process has no other way that every libc knows.
        let place = folder ?? NSTemporaryDirectory()
        let child = try ChildProcess(
            "/bin/sh", ["-c", "cd \"$0\" && exec \"$@\"", place, try program()] + arguments, environment: values)
        return RunningLindero(child)
    }

    /// The program's path.
    public static func program() throws -> String {
        var folder = URL(fileURLWithPath: CommandLine.arguments[0]).standardizedFileURL.deletingLastPathComponent()
        // On Linux the test executable lies in the products folder itself; elsewhere inside a bundle.
        for _ in 0..<4 {
            let candidate = folder.appendingPathComponent("lindero").path
            if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
            folder = folder.deletingLastPathComponent()
        }
        throw NotBuilt()
    }
}

/// A `lindero` that is running; it ends with this object, and its output goes too.
public final class RunningLindero: Sendable {
    public let child: ChildProcess

    init(_ child: ChildProcess) {
        self.child = child
        ProcessWarden.shared?.watch(child.processID, folder: folder)
    }

    deinit {
        child.signal(SIGKILL)
        ProcessWarden.shared?.forget(child.processID)
        try? FileManager.default.removeItem(atPath: folder)
    }

    /// Holds what it printed.
    private var folder: String { (child.outputPath as NSString).deletingLastPathComponent }

    public var output: String { child.output }
    public var errors: String { child.errors }

    public func terminate() { child.signal(SIGTERM) }
    public func interrupt() { child.signal(SIGINT) }
    public func kill9() { child.signal(SIGKILL) }
    /// Stops its clock, as a debugger or an overloaded machine would.
    public func pause() { child.signal(SIGSTOP) }
    public func resume() { child.signal(SIGCONT) }

    /// The exit code; 128 + signal when one ended it.
    public func wait(timeoutSeconds: Double = 60) async throws -> Int32 {
        try await child.wait(timeoutSeconds: timeoutSeconds)
    }

    /// Waits until stderr holds a text; fails at once when the process has ended without it.
    public func waitForErrors(_ text: String, timeoutSeconds: Double = 30) async throws {
        try await waitUntil("lindero says \"\(text)\"; it said \(errors)", timeoutSeconds: timeoutSeconds) {
            let hasEnded = child.exitCode != nil
            if errors.contains(text) { return true }
            if hasEnded { throw EndedEarly(errors: errors) }
            return false
        }
    }

    /// Waits until SIGTERM no longer has its default action, as the kernel tells.
    public func waitUntilSignalsAreHandled() async throws {
        try await waitUntil("lindero handles SIGTERM") {
            let status = try String(contentsOfFile: "/proc/\(child.processID)/status", encoding: .utf8)
            let caught = status.split(separator: "\n").first { $0.hasPrefix("SigCgt:") }
            let mask = caught.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) } ?? 0
            return mask >> UInt64(SIGTERM - 1) & 1 == 1 && !isStillTheShell
        }
    }

    private var isStillTheShell: Bool {
        let program = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(child.processID)/exe")
        return program?.hasSuffix("/lindero") != true
    }

    public struct EndedEarly: Error { public let errors: String }
}
