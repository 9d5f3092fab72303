import PostgresClient
import ReplicationCore

/// The way back of a move that failed.
extension MoveRun {
    /// Puts back what was begun, as far as it can.
    ///
    /// - Returns: what could not be put back, for people.
    func undo() async -> [String] {
        deadline = Monotonic.milliseconds() + Int64(move.deadlineMilliseconds)
        var left: [String] = []
        for undoing in MovePlan.undo(begun) {
            report(.undoing(undoing))
            do {
                try await take(undoing)
            } catch {
                left.append("\(undoing): \(ServiceMoveError.from(error, side: move.from.name))")
            }
        }
        return left
    }

    private func take(_ undoing: MovePlan.Undoing) async throws {
        switch undoing {
        case .liftFence:
            await fence?.drop()
            endFence()
        case .pointBack:
            guard let console, let bouncer = move.bouncer else { return }
            if let entryBefore {
                try file(bouncer).change(bouncer.entry, .restore(entryBefore))
            } else {
                try file(bouncer).change(bouncer.entry, .point(try await address(of: move.from, source)))
            }
            try await console.reload()
        case .resume: try await resume()
        case .commandBack: try await command(.undo, from: move.to.name, to: move.from.name)
        case .allowOnSource: try await refusal.remove(on: source, tryMilliseconds: 50) { leftMilliseconds }
        case .refuseOnTarget: try await refusal.create(on: target, tryMilliseconds: 50) { leftMilliseconds }
        }
    }
}
