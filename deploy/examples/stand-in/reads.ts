// Writes and reads again and again, as the example does; prints how many reads were stale, and which database gave them.
import { position, primary, readerFor, replica } from "./replica";

const count = Number(process.argv[2]);
const found = { writes: count, stale: 0, fromReplica: 0, fromPrimary: 0 };
for (let n = 1; n <= count; n++) {
  const whatsappThreadId = `thread ${process.pid} ${n}`;
  await primary.reservas.update({ where: { bookingId: "beds24-1" }, data: { whatsappThreadId } });
  const reader = await readerFor(await position());
  const row = await reader.reservas.findUnique({ where: { bookingId: "beds24-1" } });
  if (row.whatsappThreadId !== whatsappThreadId) found.stale += 1;
  if (reader === replica) found.fromReplica += 1; else found.fromPrimary += 1;
}
console.log(JSON.stringify(found));
