import Glibc
import ReplicationCore

/// Reads and replaces the file with pgbouncer's entries: whole, or not at all, with its owner and mode.
struct BouncerFileStore {
    /// As the configuration has it, for messages.
    let path: String

    func read() throws(ServiceMoveError) -> BouncerFile {
        let file = Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw problem(.unreadable(Self.reason())) }
        defer { Glibc.close(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = Glibc.read(file, &buffer, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw problem(.unreadable(Self.reason())) }
            if count == 0 { return BouncerFile(bytes) }
            bytes += buffer[..<count]
        }
    }

    /// The address that an entry gets, or the text that it had before.
    enum Change {
        case point(ServerAddress)
        case restore([UInt8])
    }

    /// A change that is written beside the file, with all that takes time, and becomes true with `commit`.
    struct Prepared {
        /// The entry's text before.
        let before: [UInt8]
        fileprivate let entry: String
        fileprivate let change: Change
        fileprivate let original: BouncerFile
        /// `nil` when the file says so already.
        fileprivate let temporary: String?
    }

    /// Changes one entry; nothing is written when it is so already.
    func change(_ entry: String, _ change: Change) throws(ServiceMoveError) { try commit(try prepare(entry, change)) }

    func prepare(_ entry: String, _ change: Change) throws(ServiceMoveError) -> Prepared {
        let file = try read()
        var changed = file
        let before: [UInt8]
        do throws(BouncerFile.Problem) {
            before = try file.text(of: entry)
            switch change {
            case .point(let address): try changed.point(entry, to: address)
            case .restore(let text): try changed.restore(entry, to: text)
            }
        } catch {
            throw problem(Self.words(error))
        }
        let temporary = changed == file ? nil : try write(changed.bytes)
        return Prepared(before: before, entry: entry, change: change, original: file, temporary: temporary)
    }

    /// - Returns: whether the file was replaced.
    @discardableResult
    func commit(_ prepared: Prepared) throws(ServiceMoveError) -> Bool {
        // Somebody else has changed it since: what they wrote is kept, too.
        guard try read() == prepared.original else {
            discard(prepared)
            return try commit(try prepare(prepared.entry, prepared.change))
        }
        guard let temporary = prepared.temporary else { return false }
        let real = try realPath()
        guard rename(temporary, real) == 0 else {
            let reason = Self.reason()
            unlink(temporary)
            throw problem(.unwritable(reason))
        }
        return true
    }

    func discard(_ prepared: Prepared) {
        if let temporary = prepared.temporary { unlink(temporary) }
    }

    /// A link stays a link: what it leads to is replaced.
    private func realPath() throws(ServiceMoveError) -> String {
        guard let resolved = realpath(path, nil) else { throw problem(.unwritable(Self.reason())) }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The entry's text now.
    func text(of entry: String) throws(ServiceMoveError) -> [UInt8] {
        let file = try read()
        do throws(BouncerFile.Problem) {
            return try file.text(of: entry)
        } catch {
            throw problem(Self.words(error))
        }
    }

    private static func words(_ problem: BouncerFile.Problem) -> ServiceMoveError.FileProblem {
        switch problem {
        case .noEntry(let entry): .noEntry(entry)
        case .twice(let entry): .twice(entry)
        case .malformed(let entry): .malformed(entry)
        }
    }

    /// Beside the file, with its owner and mode, and on the disk before it may take its name.
    ///
    /// - Returns: where.
    private func write(_ bytes: [UInt8]) throws(ServiceMoveError) -> String {
        let real = try realPath()
        var status = stat()
        guard stat(real, &status) == 0 else { throw problem(.unwritable(Self.reason())) }
        let temporary = real + ".lindero-new"
        unlink(temporary)
        let file = Glibc.open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw problem(.unwritable(Self.reason())) }
        defer { Glibc.close(file) }
        let isWritten =
            fchown(file, status.st_uid, status.st_gid) == 0 && fchmod(file, status.st_mode & 0o7777) == 0
            && Self.write(bytes, to: file) && fsync(file) == 0
        guard isWritten else {
            let reason = Self.reason()
            unlink(temporary)
            throw problem(.unwritable(reason))
        }
        return temporary
    }

    private static func write(_ bytes: [UInt8], to file: CInt) -> Bool {
        var offset = 0
        while offset < bytes.count {
            let count = bytes[offset...].withUnsafeBytes { Glibc.write(file, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            offset += count
        }
        return true
    }

    private func problem(_ problem: ServiceMoveError.FileProblem) -> ServiceMoveError { .file(path: path, problem) }

    private static func reason() -> String { String(cString: strerror(errno)) }
}
