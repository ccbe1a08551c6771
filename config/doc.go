// Package config turns flags, environment variables and the device file into
// one validated value that knows where each field came from.
//
// All settings stand in one table (settings.go). Flags, variables, keys of the
// device file, their checks, -help and docs/configuration.md are made from it;
// a new setting is one row. Flags win over variables, variables over the device
// file, the device file over defaults, with one exception: update_url of the
// device file wins over -remoteUpdateURL.
//
// Promises:
//   - [Load] writes nothing. The device file is written only when [DeviceFile.Update]
//     changed a value: atomically, through symbolic links, on top of what the
//     file holds at that moment, with every key that the agent does not know
//     kept in its place. A damaged file is named with line and column and left
//     alone, at the start and later.
//   - A loaded [Config] does not change. The identity in its device file may;
//     [DeviceFile.Identity] is a snapshot, and all methods of DeviceFile may be
//     called from any goroutine.
//   - Everything that can be wrong with the configuration is found by Load and
//     reported as one [*Error]. What is odd but can be lived with becomes a
//     warning: a device that does not start cannot be reached.
//   - No error, warning or printed value contains a secret.
package config
