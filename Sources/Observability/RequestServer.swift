import Foundation
import Glibc
import ReplicationCore
import Synchronization

/// Answers one request a connection, of which it reads the head alone, on one thread of its own.
struct RequestServer: Sendable {
    let address: HTTPAddress
    let limits: RequestExchange.Limits
    let answer: @Sendable (RequestHead) async -> StatusAnswer

    /// Serves until the task is cancelled.
    ///
    /// - Parameter onListening: called once, with the port that was bound.
    /// - Throws: `SocketDescriptor.Failure` when the address can't be bound, or the system takes the sockets away.
    func run(onListening: (UInt16) -> Void) async throws {
        let listener = try SocketDescriptor.listening(at: address)
        let mailbox = try Mailbox()
        onListening(listener.port)
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (ended: CheckedContinuation<Void, any Error>) in
                let thread = Thread {
                    var loop = RequestLoop(listener: listener, mailbox: mailbox, limits: limits, answer: answer)
                    ended.resume(with: Result { try loop.run() })
                }
                thread.name = "status page"
                thread.start()
            }
        } onCancel: {
            mailbox.stop()
        }
    }

    /// Brings what tasks have done to the thread that waits for sockets.
    final class Mailbox: Sendable {
        struct Mail {
            var answers: [(connection: Int, bytes: [UInt8])] = []
            var isStopped = false
        }

        private let pipe: (reading: SocketDescriptor, writing: SocketDescriptor)
        private let mail = Mutex(Mail())

        init() throws(SocketDescriptor.Failure) { pipe = try SocketDescriptor.pipe() }

        /// Can be read from while there is mail.
        var descriptor: CInt { pipe.reading.number }

        func answer(_ connection: Int, _ bytes: [UInt8]) {
            mail.withLock { $0.answers.append((connection, bytes)) }
            ring()
        }

        func stop() {
            mail.withLock { $0.isStopped = true }
            ring()
        }

        /// Takes all of it. Rings are taken first: mail that comes between both is found by the next turn.
        func take() -> Mail {
            var rings = [UInt8](repeating: 0, count: 64)
            while read(pipe.reading.number, &rings, rings.count) > 0 {}
            return mail.withLock { mail in
                defer { mail.answers = [] }
                return mail
            }
        }

        /// A pipe that is full rings as well.
        private func ring() {
            var one: UInt8 = 1
            _ = write(pipe.writing.number, &one, 1)
        }
    }
}
