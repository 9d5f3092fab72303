import Glibc
import Logging

/// The configuration's own program that moves a service.
struct MoveCommand {
    let words: [String]
    let service: String
    let logger: Logger

    /// What the program is told to do.
    enum Step: String {
        case move
        /// Brings the service back after a move that failed: `LINDERO_TO` is where it was.
        case undo
    }

    /// Runs it to its end.
    ///
    /// - Parameter meanwhile: called every now and then while it runs.
    func run(
        _ step: Step, from source: String, to target: String, leftMilliseconds: () -> Int, meanwhile: () async throws -> Void
    ) async throws {
        let program = words[0]
        func problem(_ problem: ServiceMoveError.CommandProblem) -> ServiceMoveError { .command(program: program, problem) }
        var environment = Self.plainEnvironment()
        environment["LINDERO_SERVICE"] = service
        environment["LINDERO_FROM"] = source
        environment["LINDERO_TO"] = target
        environment["LINDERO_STEP"] = step.rawValue
        let given = leftMilliseconds()
        let child: ChildProgram
        do throws(ChildProgram.Failure) {
            child = try ChildProgram(program, Array(words.dropFirst()), environment: environment)
        } catch {
            throw problem(.notStarted(error.reason))
        }
        child.closeInput()
        let lines = child.lines
        let said = Task { [logger] in
            for await line in lines { logger.info("\(step.rawValue) \(service): \(line)") }
        }
        do {
            while child.exitCode == nil {
                guard leftMilliseconds() > 0 else { throw problem(.tookTooLong(milliseconds: given)) }
                try await meanwhile()
                try await Task.sleep(for: .milliseconds(20))
            }
        } catch {
            await child.end()
            said.cancel()
            throw error
        }
        // Something that it started may keep its output open; what it said itself is here within a moment.
        let grace = Task {
            try? await Task.sleep(for: .milliseconds(500))
            said.cancel()
        }
        await said.value
        grace.cancel()
        if let code = child.exitCode, code != 0 { throw problem(.exited(code: code)) }
    }

    /// What every program needs, and nothing that could hold a secret: our own environment has the databases' URLs.
    static func plainEnvironment() -> [String: String] {
        var values: [String: String] = [:]
        for name in ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH"] {
            if let value = getenv(name) { values[name] = String(cString: value) }
        }
        return values
    }
}
