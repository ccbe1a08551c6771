// Package commands runs programs that a remote caller asks for, on this device
// and inside its containers, and keeps what became of them.
//
// Promises:
//   - A command has an id of its caller's choice and runs once. Before it starts,
//     the intent is on the disk; the same caller with the same id and arguments
//     attaches to it, or gets its kept result, from any number of calls, over lost
//     links and ends of the agent, and whatever became of its container. A command
//     that an end of the agent cut off is "interrupted": what of it still runs is
//     ended, and it does not run again.
//   - An id whose record is damaged stays used: nobody knows whether it ran.
//   - A command outlives the calls that wait for it. Only its own end, its time
//     limit, Stop, and the end of Run end it; then everything that it has started
//     gets SIGTERM, and what is left after Config.Grace SIGKILL: daemons too, unless
//     they got rid of the mark (below). One that ends by itself may leave others
//     behind in the background, as in any shell: they live on, and their output is
//     not taken any more. Who cancels a call ends the command only if nobody else
//     follows it.
//   - Nobody shuts others out: each caller has a share of what may run, be kept, and
//     be asked at once. Answers with output, which are large, are made few at a time.
//   - Output goes to a file, up to what the caller wants and Config.KeptBytes has
//     room for; from there it is read by those who are attached, each at its own
//     pace. So nobody who is slow holds the command up, and no amount of output
//     costs memory: what is not kept is counted. On a full disk the last of it is
//     kept in memory, a little and as long as the command runs.
//   - Results are kept for Config.KeepAtLeast; where there are too many for that,
//     new commands are refused rather than results forgotten. Outputs go before,
//     the oldest first, when they are too big all together.
//   - No argument, variable or output is in a log. On the disk there are outputs,
//     in files that nobody else can read, and of arguments only a digest.
//
// A program on the device runs as the agent's own user, without a terminal and
// with empty input, in a session of its own, with the few variables that a login
// would give it and not the agent's; one more (REAGENT_COMMAND) marks all that it
// starts (in a container REAGENT_EXEC). In a container a signal that ended it cannot
// be told from an exit code of 128 and its number.
//
// Everything may be called from any number of goroutines, while Run runs.
package commands
