import { position, primary, readerFor } from "./replica";

// One request: keep the position beside the session (a cookie will do), and use it for the next reads of the same user.
// (A column that is private to its owner, such as crmNotes, is on the primary alone: read that one there.)
async function noteThread(bookingId: string, whatsappThreadId: string) {
  await primary.reservas.update({ where: { bookingId }, data: { whatsappThreadId } });
  const lsn = await position();
  const reader = await readerFor(lsn);
  return reader.reservas.findUnique({ where: { bookingId } });
}

noteThread("beds24-1", "thread-7").then(console.log, console.error);
