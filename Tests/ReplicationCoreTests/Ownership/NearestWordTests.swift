import ReplicationCore
import Testing

@Suite struct NearestWordTests {
    @Test(arguments: [
        ("reservas", "Reservas"), ("Resrevas", "Reservas"), ("Reserva", "Reservas"), ("Laeds", "Leads"),
        ("HotelAprt", "HotelApart"), ("bto", "bot"),
    ])
    func smallMistakeFindsItsWord(_ typed: String, _ meant: String) {
        #expect(NearestWord.among(["bot", "Reservas", "Leads", "HotelApart"], to: typed) == meant)
    }

    @Test(arguments: ["Invoices", "x", ""])
    func unlikeWordFindsNothing(_ typed: String) {
        #expect(NearestWord.among(["bot", "Reservas", "Leads", "HotelApart"], to: typed) == nil)
    }

    @Test func nearerWordWins() {
        #expect(NearestWord.among(["created", "createdBy", "createdAt"], to: "createdAtt") == "createdAt")
    }
}
