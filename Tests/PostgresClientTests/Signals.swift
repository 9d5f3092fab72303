import Foundation
import Glibc

/// Stops a process as a hung machine would.
func signalStop(_ processID: Int32) { kill(processID, SIGSTOP) }
func signalContinue(_ processID: Int32) { kill(processID, SIGCONT) }

/// Whether a process that is stopped has been sent SIGINT, which is how PostgreSQL cancels a statement.
func hasPendingInterrupt(_ processID: Int32) throws -> Bool {
    let status = try String(contentsOfFile: "/proc/\(processID)/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix("ShdPnd:") }
    let mask = line.flatMap { UInt64($0.dropFirst(7).trimmingCharacters(in: .whitespaces), radix: 16) } ?? 0
    return mask >> UInt64(SIGINT - 1) & 1 == 1
}

/// The threads of this process.
func threadCount() -> Int {
    guard let folder = opendir("/proc/self/task") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return count - 2
}
