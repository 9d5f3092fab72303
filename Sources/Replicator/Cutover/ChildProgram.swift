import Dispatch
import Glibc
import Synchronization

/// A program that a move starts, in a process group of its own: never by a shell, and with nothing of ours but what is given.
final class ChildProgram: Sendable {
    struct Failure: Error { let reason: String }

    private let processID: pid_t
    /// Our end of its standard input. Its end is how it learns that we are gone, even after kill -9.
    private let input: Mutex<CInt>
    /// What it prints, stdout and stderr alike, line by line; a line is cut at 4 kB.
    let lines: AsyncStream<String>
    private let status = Mutex<Int32?>(nil)

    private static let longestLineBytes = 4_096

    init(_ program: String, _ arguments: [String], environment: [String: String]) throws(Failure) {
        var inputEnds: [CInt] = [0, 0]
        var outputEnds: [CInt] = [0, 0]
        // Of sockets, since a write to the pipe of a program that has ended would end us, too.
        let kind = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &inputEnds) == 0 else { throw Failure(reason: String(cString: strerror(errno))) }
        guard socketpair(AF_UNIX, kind, 0, &outputEnds) == 0 else {
            let reason = String(cString: strerror(errno))
            for end in inputEnds { Glibc.close(end) }
            throw Failure(reason: reason)
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, inputEnds[0], 0)
        posix_spawn_file_actions_adddup2(&actions, outputEnds[1], 1)
        posix_spawn_file_actions_adddup2(&actions, outputEnds[1], 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var nothing = sigset_t()
        sigemptyset(&nothing)
        posix_spawnattr_setsigmask(&attributes, &nothing)
        var everything = sigset_t()
        sigfillset(&everything)
        posix_spawnattr_setsigdefault(&attributes, &everything)
        // Ctrl-C on our terminal is for us to answer.
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
        var argv = ([program] + arguments).map { strdup($0) } + [nil]
        var envp = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var child: pid_t = 0
        let code = posix_spawn(&child, program, &actions, &attributes, &argv, &envp)
        Glibc.close(inputEnds[0])
        Glibc.close(outputEnds[1])
        guard code == 0 else {
            Glibc.close(inputEnds[1])
            Glibc.close(outputEnds[0])
            throw Failure(reason: String(cString: strerror(code)))
        }
        processID = child
        input = Mutex(inputEnds[1])
        let (stream, continuation) = AsyncStream<String>.makeStream(bufferingPolicy: .bufferingOldest(10_000))
        lines = stream
        let output = outputEnds[0]
        DispatchQueue(label: "lindero.child").async { Self.readLines(output, continuation) }
    }

    deinit { closeInput() }

    private static func readLines(_ output: CInt, _ continuation: AsyncStream<String>.Continuation) {
        var line: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = read(output, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            if count <= 0 { break }
            for byte in buffer[..<count] {
                if byte == UInt8(ascii: "\n") {
                    continuation.yield(String(decoding: line, as: UTF8.self))
                    line.removeAll(keepingCapacity: true)
                } else if line.count < longestLineBytes {
                    line.append(byte)
                }
            }
        }
        if !line.isEmpty { continuation.yield(String(decoding: line, as: UTF8.self)) }
        continuation.finish()
        close(output)
    }

    func write(_ text: String) {
        let bytes = Array(text.utf8)
        input.withLock { input in
            guard input >= 0 else { return }
            // It may have died; that must not end us.
            var offset = 0
            while offset < bytes.count {
                let count = bytes[offset...].withUnsafeBytes { send(input, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL)) }
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return }
                offset += count
            }
        }
    }

    func closeInput() {
        input.withLock { input in
            if input >= 0 { Glibc.close(input) }
            input = -1
        }
    }

    /// The exit code once it has ended; 128 + signal when one ended it.
    var exitCode: Int32? {
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

    /// Ends it and what it started: first with a word, then without.
    func end() async {
        for (signal, polls) in [(SIGTERM, 100), (SIGKILL, 50)] {
            guard exitCode == nil else { return }
            kill(-processID, signal)
            for _ in 0..<polls where exitCode == nil { try? await Task.sleep(for: .milliseconds(20)) }
        }
    }
}
