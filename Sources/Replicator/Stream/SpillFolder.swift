import Dispatch
import Glibc
import ReplicationCore

/// The private folder of one stream, for transactions that run at the source and do not fit in memory.
///
/// It lives as long as the stream. Who lives holds a lock on its own folder, so what a dead worker left is known by that
/// and removed by the next that starts. The files are never synced: they are worth nothing after a crash.
final class SpillFolder: Sendable {
    let path: String
    /// Held open: it carries the lock.
    private let descriptor: CInt
    /// Files block, and the cooperative pool has one thread a core.
    private let queue = DispatchQueue(label: "lindero.spill")

    private static let suffix = ".spill"

    /// Where folders are made unless the configuration says otherwise: on disk, for `/tmp` is often memory.
    static var defaultBase: String { "/var/tmp/lindero-\(geteuid())" }

    /// Removes what dead workers left, for a start that may need no folder itself: in `base`, and where folders are made
    /// by default. A base that is not there or that others may write to is left alone.
    static func sweep(base: String?) async {
        let queue = DispatchQueue(label: "lindero.spill.sweep")
        for base in Set([base ?? defaultBase, defaultBase]) {
            try? await blocking(on: queue) { () throws(SpillError) in
                let descriptor = try openBase(base, makesIt: false)
                defer { Glibc.close(descriptor) }
                try lock(descriptor, of: base)
                removeDead(in: base)
            }
        }
    }

    /// Makes the folder, and removes those of dead workers.
    static func open(base: String?, direction: String) async throws -> SpillFolder {
        let queue = DispatchQueue(label: "lindero.spill.open")
        return try await blocking(on: queue) { () throws(SpillError) in
            try SpillFolder(base: base ?? defaultBase, direction: direction)
        }
    }

    private init(base: String, direction: String) throws(SpillError) {
        let descriptor = try Self.openBase(base, makesIt: true)
        defer { Glibc.close(descriptor) }
        try Self.lock(descriptor, of: base)
        Self.removeDead(in: base)
        let plain = String(
            direction.unicodeScalars.map {
                ($0.isASCII && $0.properties.isAlphabetic) || ("0"..."9").contains($0) ? Character($0) : "_"
            })
        path = "\(base)/\(plain)-\(String(UInt64.random(in: 0...UInt64.max), radix: 36))\(Self.suffix)"
        guard mkdir(path, 0o700) == 0 else { throw .last(base, "written to") }
        self.descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard self.descriptor >= 0, flock(self.descriptor, LOCK_EX | LOCK_NB) == 0 else {
            throw .last(path, "locked")
        }
    }

    deinit { Glibc.close(descriptor) }

    // MARK: a transaction's file

    /// Writes frames at their places; doing it again after a failure is right.
    func write(_ spill: Spill) async throws {
        try await Self.blocking(on: queue) { [self] () throws(SpillError) in
            let flags = O_WRONLY | O_NOFOLLOW | O_CLOEXEC | (spill.isNewFile ? O_CREAT : 0)
            let file = try open(spill.xid, flags)
            defer { Glibc.close(file) }
            for frame in spill.frames {
                try write(frame.header, at: frame.offset, to: file)
                try write(frame.block, at: frame.offset + frame.header.count, to: file)
            }
        }
    }

    /// Reads what is there; shorter when the file is.
    func read(_ place: SpillPlace, of xid: UInt32) async throws -> [UInt8] {
        try await Self.blocking(on: queue) { [self] () throws(SpillError) in
            let file = try open(xid, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
            defer { Glibc.close(file) }
            return try bytes(of: file, named: name(xid), place.offset..<(place.offset + place.length))
        }
    }

    /// Removes a transaction's file, if it is there.
    func remove(_ xid: UInt32) async {
        try? await Self.blocking(on: queue) { [self] () throws(SpillError) in _ = unlink(name(xid)) }
    }

    /// Removes the folder and what is in it.
    func close() async {
        try? await Self.blocking(on: queue) { [self] () throws(SpillError) in Self.empty(path) }
    }

    func name(_ xid: UInt32) -> String { "\(path)/\(xid)" }

    private func open(_ xid: UInt32, _ flags: CInt) throws(SpillError) -> CInt { try open(name(xid), flags) }

    private func open(_ name: String, _ flags: CInt) throws(SpillError) -> CInt {
        let file = Glibc.open(name, flags, 0o600)
        guard file < 0 else { return file }
        // Somebody tidied up.
        if errno == ENOENT { throw .damaged(file: name, what: "is gone") }
        throw .last(path, "written to")
    }

    /// Shorter when the file is.
    private func bytes(of file: CInt, named name: String, _ range: Range<Int>) throws(SpillError) -> [UInt8] {
        var code: CInt = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
            while count < range.count {
                let taken = pread(
                    file, buffer.baseAddress! + count, range.count - count, off_t(range.lowerBound + count))
                if taken == 0 { return }
                if taken < 0 {
                    if errno == EINTR { continue }
                    code = errno
                    return
                }
                count += taken
            }
        }
        guard code == 0 else {
            throw .damaged(file: name, what: "could not be read: \(String(cString: strerror(code)))")
        }
        return bytes
    }

    // MARK: files that are read and written at once

    /// For small pieces that the page cache mostly has, by callers who hold a lock and can't wait for a queue.
    func writeNow(_ bytes: [UInt8], at offset: Int, to name: String) throws(SpillError) {
        let file = try open("\(path)/\(name)", O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_CREAT)
        defer { Glibc.close(file) }
        try write(bytes, at: offset, to: file)
    }

    func readNow(_ range: Range<Int>, of name: String) throws(SpillError) -> [UInt8] {
        let file = try open("\(path)/\(name)", O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
        defer { Glibc.close(file) }
        return try bytes(of: file, named: "\(path)/\(name)", range)
    }

    func removeNow(_ name: String) { unlink("\(path)/\(name)") }

    private func write(_ bytes: [UInt8], at offset: Int, to file: CInt) throws(SpillError) {
        var done = 0
        while done < bytes.count {
            let written = bytes.withUnsafeBytes {
                pwrite(file, $0.baseAddress! + done, $0.count - done, off_t(offset + done))
            }
            if written < 0 && errno == EINTR { continue }
            guard written > 0 else { throw .last(path, "written to") }
            done += written
        }
    }

    // MARK: folders

    /// What would keep a worker from `base`, as far as looking tells, and whether it does so for every user.
    static func obstacle(_ base: String) -> (words: String, isForAll: Bool)? {
        var facts = stat()
        if lstat(base, &facts) == 0 {
            if facts.st_mode & S_IFMT != S_IFDIR { return ("is no folder", true) }
            if facts.st_mode & 0o022 != 0 { return ("is writable for others", true) }
            return facts.st_uid == geteuid()
                ? nil : ("belongs to another user than the one who checks", false)
        }
        let parent = base.split(separator: "/").dropLast().map { "/" + $0 }.joined()
        return access(parent.isEmpty ? "/" : parent, W_OK) == 0
            ? nil : ("does not exist and can't be made", false)
    }

    /// Makes sure that nobody else can put something into the base.
    private static func openBase(_ base: String, makesIt: Bool) throws(SpillError) -> CInt {
        if makesIt {
            guard mkdir(base, 0o700) == 0 || errno == EEXIST else { throw .last(base, "made") }
        }
        let descriptor = Glibc.open(base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        guard descriptor >= 0 else { throw .last(base, "opened as a folder") }
        var facts = stat()
        guard fstat(descriptor, &facts) == 0, facts.st_uid == geteuid(), facts.st_mode & 0o022 == 0 else {
            Glibc.close(descriptor)
            throw .unusable(folder: base, why: "belongs to another user, or others may write to it")
        }
        return descriptor
    }

    /// One at a time: a folder that is made but not yet locked would look dead.
    private static func lock(_ descriptor: CInt, of base: String) throws(SpillError) {
        while flock(descriptor, LOCK_EX) != 0 {
            if errno != EINTR { throw .last(base, "locked") }
        }
    }

    private static func removeDead(in base: String) {
        for name in names(in: base) where name.hasSuffix(suffix) {
            let folder = "\(base)/\(name)"
            let descriptor = Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard descriptor >= 0 else { continue }
            if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { empty(folder) }
            Glibc.close(descriptor)
        }
    }

    private static func empty(_ folder: String) {
        for name in names(in: folder) { unlink("\(folder)/\(name)") }
        rmdir(folder)
    }

    private static func names(in folder: String) -> [String] {
        guard let listing = opendir(folder) else { return [] }
        defer { closedir(listing) }
        var names: [String] = []
        while let entry = readdir(listing) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { raw in
                String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    @discardableResult
    private static func blocking<Result: Sendable>(
        on queue: DispatchQueue, _ body: @escaping @Sendable () throws(SpillError) -> Result
    ) async throws -> Result {
        try await withCheckedThrowingContinuation { continuation in
            queue.async {
                continuation.resume(
                    with: Swift.Result { () throws(SpillError) in try body() }.mapError { $0 as any Error })
            }
        }
    }
}
