// Package test runs whole programs, as built, the way people do: each *.txtar in
// this folder is a script (see testscript) whose name is a claim. Besides the
// commands of testscript there are
//
//	code N PROGRAM ARGS…      runs a program that must end with exit code N
//	eventually PROGRAM ARGS…  runs a program again and again until it succeeds,
//	                          for 30 s at most; its output is there for stdout
//	image FILE VERSION [NAME=VALUE]…
//	                          writes an image of the test's app as an archive
//	example NAME FOLDER       copies an example, with its program built
//	engine VARIABLE           starts a Docker Engine of its own; its address is in
//	                          the variable
//	compose VARIABLE          makes reagent-compose; its path is in the variable
//	certificate CERT KEY      writes a certificate for 127.0.0.1
//	mode FILE OCTAL           checks who may read a file
//	sweep                     removes at the end what carries $APP from the engine
//	nosecret FILE…            no secret of the device file is in these files
//
// the conditions [docker] and [root], and the variables ADDR (an address that is free), APP (a name for an app that
// no other test uses) and REAGENT_STUDIO_DATA. A bug that mattered gets a script
// by pasting what showed it.
package test
