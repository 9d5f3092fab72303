import Glibc
import PostgresClient

/// Lets pgbouncer's clients go on when the one who paused them dies, or takes too long.
///
/// It is a process of its own, started before the PAUSE: a pause outlives the session that asked for it. It has its own
/// console open by the time it says that it is ready, and acts at the end of its input, which the kernel brings about
/// however its parent dies, and when its time is up.
public struct PauseWatch: Sendable {
    /// The program and the arguments that make it call `main`.
    public struct Program: Sendable {
        public var path: String
        public var arguments: [String]

        public init(path: String, arguments: [String]) {
            self.path = path
            self.arguments = arguments
        }

        /// This very program, with the command line's hidden command.
        public static let own = Program(path: "/proc/self/exe", arguments: ["pause-watch"])
    }

    private static let ready = "ready"
    private static let done = "done"
    private let child: ChildProgram

    /// Starts it, and comes back when it could resume.
    ///
    /// The connection string goes through a pipe: arguments and environments can be read by others.
    static func start(
        _ program: Program, console conninfo: String, entry: String, lifeMilliseconds: Int
    ) async throws(ServiceMoveError) -> PauseWatch {
        let child: ChildProgram
        do throws(ChildProgram.Failure) {
            child = try ChildProgram(program.path, program.arguments, environment: environment())
        } catch {
            throw .noPauseWatch(error.reason)
        }
        child.write("\(entry)\n\(lifeMilliseconds)\n\(Array(conninfo.utf8).map { String($0, radix: 16) }.joined(separator: " "))\n")
        var said = "it ended at once"
        for await line in child.lines {
            if line == ready { return PauseWatch(child: child) }
            said = line
            break
        }
        await child.end()
        throw .noPauseWatch(said)
    }

    /// It connects as we do, whatever part of that is in libpq's own variables.
    private static func environment() -> [String: String] {
        var values = MoveCommand.plainEnvironment()
        let names = [
            "PASSWORD", "PASSFILE", "SERVICE", "SERVICEFILE", "SYSCONFDIR", "HOST", "HOSTADDR", "PORT", "USER", "DATABASE", "SSLMODE",
            "SSLROOTCERT", "SSLCERT", "SSLKEY", "SSLCRL", "CHANNELBINDING", "CONNECT_TIMEOUT",
        ]
        for name in names.map({ "PG" + $0 }) {
            if let value = getenv(name) { values[name] = String(cString: value) }
        }
        return values
    }

    /// It is not needed any more.
    func dismiss() async {
        child.write(Self.done + "\n")
        child.closeInput()
        for _ in 0..<100 where child.exitCode == nil { try? await Task.sleep(for: .milliseconds(10)) }
        await child.end()
    }

    /// What the process does: reads its orders from stdin, waits there, and resumes if it must.
    ///
    /// - Returns: its exit code.
    public static func main() async -> Int32 {
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { Glibc.signal(signal, SIG_IGN) }
        var input = InputLines()
        guard let entry = input.next(until: nil), let life = input.next(until: nil).flatMap({ Int64($0) }),
            let conninfo = input.next(until: nil)
        else {
            print("it is started by a move, which tells it what to watch")
            return 2
        }
        let deadline = Monotonic.milliseconds() + life
        do {
            let text = String(decoding: conninfo.split(separator: " ").compactMap { UInt8($0, radix: 16) }, as: UTF8.self)
            let console = try await BouncerConsole.open(text)
            print(ready)
            fflush(nil)
            if input.next(until: deadline) == done { return 0 }
            try await resume(entry, console, text)
            return 0
        } catch {
            print("\(error)")
            return 1
        }
    }

    /// The console may have been lost with a restart of pgbouncer; after one nobody is paused, but it may take a moment.
    private static func resume(_ entry: String, _ console: BouncerConsole, _ conninfo: String) async throws {
        do {
            try await console.resume(entry)
        } catch {
            for attempt in 1... {
                do {
                    return try await BouncerConsole.open(conninfo).resume(entry)
                } catch {
                    if attempt == 60 { throw error }
                    try await Task.sleep(for: .milliseconds(500))
                }
            }
        }
    }
}

/// Lines of stdin. It blocks: the process has nothing else to do.
private struct InputLines {
    private var bytes: [UInt8] = []

    /// - Parameter deadline: on the monotonic clock; `nil` waits for ever.
    /// - Returns: `nil` at the end, and past the deadline.
    mutating func next(until deadline: Int64?) -> String? {
        while true {
            if let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: bytes[..<end], as: UTF8.self)
                bytes.removeFirst(end + 1)
                return line
            }
            var poll = pollfd(fd: 0, events: Int16(POLLIN), revents: 0)
            let left = deadline.map { max(0, min($0 - Monotonic.milliseconds(), 1_000_000)) } ?? -1
            let count = Glibc.poll(&poll, 1, CInt(left))
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return nil }
            var buffer = [UInt8](repeating: 0, count: 4_096)
            let size = read(0, &buffer, buffer.count)
            if size < 0, errno == EINTR { continue }
            guard size > 0 else { return nil }
            bytes += buffer[..<size]
        }
    }
}
