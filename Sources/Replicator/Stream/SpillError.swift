import Glibc
import ReplicationCore

/// What went wrong with the files of streamed transactions. Nothing of them was acknowledged: the source sends all again.
enum SpillError: Error, CustomStringConvertible {
    /// No room, or no more than the quota allows.
    case full(folder: String)
    /// A file is not what was written into it.
    case damaged(file: String, what: String)
    /// The folder cannot be used: a person has to see to it.
    case unusable(folder: String, why: String)

    var description: String {
        switch self {
        case .full(let folder): "no room is left in \(folder)"
        case .damaged(let file, let what): "\(file) \(what)"
        case .unusable(let folder, let why): "\(folder) \(why)"
        }
    }

    /// The last system call's error.
    static func last(_ folder: String, _ operation: String) -> SpillError {
        let code = errno
        if code == ENOSPC || code == EDQUOT { return .full(folder: folder) }
        return .unusable(folder: folder, why: "could not be \(operation): \(String(cString: strerror(code)))")
    }
}
