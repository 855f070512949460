/** Processor time that a process has used since it began, all its threads, user and system: Linux keeps it in hundredths of a second. */
import { readFileSync } from "node:fs";

const TICKS_PER_SECOND = 100;
/** Fields of /proc/PID/stat after the name, which may hold anything but ends with the last bracket. */
const UTIME = 11;
const STIME = 12;

export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[UTIME]) + Number(fields[STIME])) / TICKS_PER_SECOND;
}
