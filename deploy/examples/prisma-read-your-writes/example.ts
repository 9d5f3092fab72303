import { position, primary, readerFor } from "./replica";

// One request: keep the position beside the session (a cookie will do), and use it for the next reads of the same user.
async function noteCall(bookingId: string, text: string) {
  await primary.reservas.update({ where: { bookingId }, data: { crmNotes: text } });
  const lsn = await position();
  const reader = await readerFor(lsn);
  return reader.reservas.findUnique({ where: { bookingId } });
}

noteCall("beds24-1", "called at noon").then(console.log, console.error);
