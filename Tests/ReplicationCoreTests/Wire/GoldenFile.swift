import Foundation

@testable import ReplicationCore

/// Messages captured from a real server by `deploy/capture-golden.sh`.
struct GoldenFile {
    let name: String
    let messages: [[UInt8]]

    struct Missing: Error { let name: String }

    init(_ name: String) throws {
        guard let url = Bundle.module.url(forResource: name, withExtension: "hex", subdirectory: "Golden") else {
            throw Missing(name: name)
        }
        self.name = name
        messages = try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map { line in
            stride(from: 0, to: line.utf8.count, by: 2).map { offset in
                let digits = Array(line.utf8)[offset..<(offset + 2)]
                return UInt8(String(decoding: digits, as: UTF8.self), radix: 16) ?? 0
            }
        }
    }

    static let rows = [15, 16, 18].flatMap { ["pg\($0)-rows-text", "pg\($0)-rows-binary"] }
    static let streamed = ["pg15-streamed", "pg16-streamed", "pg18-streamed", "pg16-parallel", "pg18-parallel"]
    static let prepared = ["pg15-prepared", "pg16-prepared", "pg18-prepared"]

    var decoder: PGOutputDecoder {
        if name.hasSuffix("parallel") { return PGOutputDecoder(protocolVersion: 4, isParallelStreaming: true) }
        if name.hasSuffix("prepared") { return PGOutputDecoder(protocolVersion: 3) }
        return PGOutputDecoder(protocolVersion: name.hasSuffix("streamed") ? 2 : 1)
    }

    /// Every message, and the arena that its rows are in.
    func decode() throws -> (messages: [PGOutputMessage], arena: ChangeArena) {
        var decoder = decoder
        var arena = ChangeArena()
        let decoded = try messages.map { try decoder.decode($0, 0..<$0.count, into: &arena) }
        return (decoded, arena)
    }
}

extension ChangeArena {
    /// A tuple in words: `∅` is NULL, `…` an unchanged TOAST value, binary values in hexadecimal.
    func words(_ tuple: TupleReference) -> [String] {
        tuple.cells.map { index in
            let cell = cells[index]
            let value = bytes[cell.offset..<(cell.offset + Int(cell.length))]
            switch cell.kind {
            case .null: return "∅"
            case .unchanged: return "…"
            case .text: return String(decoding: value, as: UTF8.self)
            case .binary: return value.map { String($0, radix: 16) }.joined(separator: " ")
            }
        }
    }
}

extension PGOutputMessage {
    /// The case's name.
    var kind: String { String(describing: self).split(separator: "(").first.map(String.init) ?? "" }
}
