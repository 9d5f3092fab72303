import Foundation
import Glibc
import Synchronization

/// A child process in a process group of its own, with its output in files.
public final class ChildProcess: Sendable {
    public let processID: Int32
    public let outputPath: String
    public let errorsPath: String
    /// Our end of the child's standard input; closing it is how a child learns that we are gone.
    private let inputDescriptor: Mutex<Int32>
    private let status = Mutex<Int32?>(nil)

    private static let spawning = NSLock()

    public struct LaunchFailure: Error { public let code: Int32 }

    public init(
        _ program: String, _ arguments: [String], environment: [String: String]? = nil, folder: String? = nil
    ) throws {
        let place = folder ?? (NSTemporaryDirectory() + "lindero-child-" + UUID().uuidString)
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        outputPath = place + "/stdout"
        errorsPath = place + "/stderr"
        var pipeEnds: [Int32] = [0, 0]
        // No other child may be born with our end of this pipe: it would keep it open after us.
        Self.spawning.lock()
        defer { Self.spawning.unlock() }
        guard pipe(&pipeEnds) == 0 else { throw LaunchFailure(code: errno) }
        for end in pipeEnds { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, pipeEnds[0], 0)
        posix_spawn_file_actions_addopen(&actions, 1, outputPath, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        posix_spawn_file_actions_addopen(&actions, 2, errorsPath, O_WRONLY | O_CREAT | O_TRUNC, 0o644)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        var argv = ([program] + arguments).map { strdup($0) } + [nil]
        let values = environment ?? ProcessInfo.processInfo.environment
        var envp = values.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var child: pid_t = 0
        let code = posix_spawnp(&child, program, &actions, &attributes, &argv, &envp)
        Glibc.close(pipeEnds[0])
        guard code == 0 else {
            Glibc.close(pipeEnds[1])
            throw LaunchFailure(code: code)
        }
        processID = child
        inputDescriptor = Mutex(pipeEnds[1])
    }

    deinit { closeInput() }

    public var output: String { (try? String(contentsOfFile: outputPath, encoding: .utf8)) ?? "" }
    public var errors: String { (try? String(contentsOfFile: errorsPath, encoding: .utf8)) ?? "" }

    public func write(_ bytes: [UInt8]) {
        let descriptor = inputDescriptor.withLock { $0 }
        var offset = 0
        while offset < bytes.count {
            let sent = bytes[offset...].withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            guard sent > 0 else { return }
            offset += sent
        }
    }

    public func closeInput() {
        inputDescriptor.withLock { descriptor in
            if descriptor >= 0 { Glibc.close(descriptor) }
            descriptor = -1
        }
    }

    public func signal(_ number: Int32) {
        if status.withLock({ $0 == nil }) { kill(processID, number) }
    }

    /// The exit code once the process has ended; 128 + signal when one ended it.
    public var exitCode: Int32? {
        status.withLock { known in
            if known == nil {
                var raw: Int32 = 0
                if waitpid(processID, &raw, WNOHANG) == processID {
                    known = raw & 0x7f == 0 ? (raw >> 8) & 0xff : 128 + (raw & 0x7f)
                }
            }
            return known
        }
    }

    /// Waits for the end; kills the whole group when it takes too long.
    public func wait(timeoutSeconds: Double) async throws -> Int32 {
        do {
            try await waitUntil("process \(processID) ends", timeoutSeconds: timeoutSeconds) { self.exitCode != nil }
        } catch {
            kill(-processID, SIGKILL)
            throw error
        }
        return exitCode ?? -1
    }
}
