import Glibc

/// Stops a process as a hung machine would.
func signalStop(_ processID: Int32) { kill(processID, SIGSTOP) }
func signalContinue(_ processID: Int32) { kill(processID, SIGCONT) }

/// The threads of this process.
func threadCount() -> Int {
    guard let folder = opendir("/proc/self/task") else { return 0 }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    return count - 2
}
