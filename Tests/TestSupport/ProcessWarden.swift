import Foundation
import Glibc

/// Ends the programs that tests started when the test process itself ends, however it does.
///
/// A small shell reads their numbers from a pipe; at the pipe's end it kills those that were not taken off the list.
final class ProcessWarden: Sendable {
    static let shared: ProcessWarden? = try? ProcessWarden()

    private let shell: ChildProcess

    private init() throws {
        shell = try ChildProcess(
            "/bin/bash", ["-c", Self.script, "warden", "\(getpid())"],
            folder: NSTemporaryDirectory() + "lindero-warden-\(getpid())")
    }

    private static let script = """
        trap '' INT TERM HUP
        declare -A watched
        while read -r word number folder; do
          case $word in
            watch) watched[$number]=$folder;;
            forget) unset "watched[$number]";;
          esac
        done
        for number in "${!watched[@]}"; do
          kill -KILL -- "-$number" 2>/dev/null
          rm -rf "${watched[$number]}"
        done
        rm -rf "${TMPDIR:-/tmp}/lindero-warden-$1"
        """

    /// Takes charge of a process group and the folder of its output.
    func watch(_ processID: Int32, folder: String) {
        shell.write(Array("watch \(processID) \(folder)\n".utf8))
    }

    /// Lets go of one that has ended: its number may soon be somebody else's.
    func forget(_ processID: Int32) { shell.write(Array("forget \(processID)\n".utf8)) }
}
