import CLibPQ
import Glibc

/// A `PGresult`, freed exactly once.
struct RawResult: ~Copyable {
    private let pointer: OpaquePointer

    init(_ pointer: OpaquePointer) { self.pointer = pointer }

    deinit { PQclear(pointer) }

    var status: ExecStatusType { PQresultStatus(pointer) }

    /// Whether the server made this result; an error without a code is libpq's own: the connection broke.
    var isFromServer: Bool { PQresultErrorField(pointer, CInt(UInt8(ascii: "C"))) != nil }

    /// The error this result carries, with the texts that may hold row values left out.
    var serverError: ServerError { ServerError(result: pointer) }

    /// Copies what the server returned.
    func copied() -> PostgresResult {
        var result = PostgresResult()
        result.commandTag = PQcmdStatus(pointer).map { String(cString: $0) } ?? ""
        result.affectedRows = affectedRows
        copyRows(into: &result)
        return result
    }

    /// The row count of the command tag.
    var affectedRows: Int { PQcmdTuples(pointer).map { atol($0) } ?? 0 }

    private func copyRows(into result: inout PostgresResult) {
        let (rowCount, columnCount) = (PQntuples(pointer), PQnfields(pointer))
        result.columns = (0..<columnCount).map { column in
            PQfname(pointer, column).map { String(cString: $0) } ?? ""
        }
        result.rowCount = Int(rowCount)
        result.cells.reserveCapacity(Int(rowCount) * Int(columnCount))
        for row in 0..<rowCount {
            for column in 0..<columnCount {
                guard PQgetisnull(pointer, row, column) == 0, let value = PQgetvalue(pointer, row, column) else {
                    result.cells.append(nil)
                    continue
                }
                let start = result.storage.count
                let length = Int(PQgetlength(pointer, row, column))
                result.storage.append(contentsOf: UnsafeRawBufferPointer(start: value, count: length))
                result.cells.append(start..<(start + length))
            }
        }
    }
}
