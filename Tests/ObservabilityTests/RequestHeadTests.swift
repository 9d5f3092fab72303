import Testing

@testable import Observability

/// What is a request, and where its head ends.
@Suite struct RequestHeadTests {
    @Test(arguments: [
        "GET", "GET /", "GET / HTTP/2", "GET  / HTTP/1.1", "GET http://a/ HTTP/1.1", "G(T / HTTP/1.1", "GET / HTTP/1.1\r\nHost : a", "GET / HTTP/1.1\r\nA: b\r\n c",
        "GET / HTTP/1.1\r\n: a", "GET / HTTP/1.1\r\nHost", "GET /?a=%zz HTTP/1.1", "", "\u{1}\u{2}",
    ]) func whatIsNoRequestIsMalformed(_ text: String) {
        #expect(throws: RequestHead.Malformed.self) { try RequestHead((text + "\r\n\r\n").utf8) }
    }

    @Test func aHeadIsReadOnce() throws {
        let head = try RequestHead("GET /await?lsn=0%2F1&on=&x HTTP/1.1\r\nHost: a\r\nHOST: b\nOrigin:  http://c \r\n\r\n".utf8)
        #expect(head.method == "GET" && head.path == "/await")
        #expect(head.query.map { "\($0.name)=\($0.value)" } == ["lsn=0/1", "on=", "x="])
        #expect(head.field("host") == nil, "two of them mean different things to different readers")
        #expect(head.field("origin") == "http://c")
    }

    /// However it is cut into pieces.
    @Test(arguments: ["GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\n\n", "GET / HTTP/1.1\nA: b\n\r\n"]) func aHeadEndsAtTheFirstEmptyLine(_ text: String) {
        let bytes = Array(text.utf8)
        for first in 0...bytes.count {
            #expect(RequestHead.end(of: Array(bytes[..<first]), from: 0) == (first == bytes.count ? bytes.count : nil))
            #expect(RequestHead.end(of: bytes + Array("more".utf8), from: first) == bytes.count || first > bytes.count - 1)
        }
    }
}
