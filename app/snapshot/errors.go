package snapshot

import (
	"errors"
	"fmt"
	"strings"

	"capsid/app/session"
)

// What errors of this package are found by; each is a session.Error, which says what to do.
var (
	// ErrDamaged: a file of the snapshot is missing, cut short or altered, or its manifest cannot be one.
	ErrDamaged = errors.New("damaged snapshot")
	// ErrNewer: a newer version of the program wrote it.
	ErrNewer = errors.New("snapshot of a newer version")
	// ErrExists: the name is taken.
	ErrExists = errors.New("snapshot exists")
	// ErrUnknown: there is no snapshot of this name.
	ErrUnknown = errors.New("unknown snapshot")
	// ErrName: this cannot name a snapshot.
	ErrName = errors.New("name of a snapshot")
	// ErrChildren: others came from it.
	ErrChildren = errors.New("snapshot has children")
)

func damaged(name, file, how string) error {
	return &session.Error{
		Message: fmt.Sprintf("snapshot %q is damaged: %s: %s", name, file, how),
		Hint:    "it cannot be restored: remove it, and restore or take another one", Kind: ErrDamaged,
	}
}

func newer(name, how string) error {
	return &session.Error{
		Message: fmt.Sprintf("snapshot %q was taken by a newer capsid: %s: %s", name, manifestFile, how),
		Hint:    "restore it with the version that took it, or update this one", Kind: ErrNewer,
	}
}

func exists(name string) error {
	return &session.Error{Message: fmt.Sprintf("there is a snapshot %q already", name), Hint: "choose another name, or remove it first", Kind: ErrExists}
}

func unknown(name string) error {
	return &session.Error{Message: fmt.Sprintf("no snapshot %q", name), Hint: "capsid snapshots lists them", Kind: ErrUnknown}
}

// Refused is the error for removing a snapshot that others came from, given by what people call them.
func Refused(name string, children []string) error {
	return &session.Error{
		Message: fmt.Sprintf("snapshot %q has children: %s", name, strings.Join(children, ", ")),
		Hint:    "remove them first, or all together with --cascade", Kind: ErrChildren,
	}
}
