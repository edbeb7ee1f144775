package session

import "errors"

// Error is a failure and the next step for a person.
type Error struct {
	Message string
	Hint    string // one line, may be empty
	Err     error  // the cause, part of the text; may be nil
	Kind    error  // what errors.Is finds it by, not part of the text; may be nil
}

func (e *Error) Error() string {
	if e.Err != nil {
		return e.Message + ": " + e.Err.Error()
	}
	return e.Message
}

// Unwrap returns the cause and the kind.
func (e *Error) Unwrap() []error {
	var list []error
	for _, err := range []error{e.Err, e.Kind} {
		if err != nil {
			list = append(list, err)
		}
	}
	return list
}

// Hint returns the next step that an error carries, or "".
func Hint(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}

var (
	// ErrUnknown: no session has this ID, prefix or name.
	ErrUnknown = errors.New("unknown session")
	// ErrAmbiguous: several sessions begin with this prefix.
	ErrAmbiguous = errors.New("ambiguous session")
	// ErrAlive: the session still runs.
	ErrAlive = errors.New("the session is running")
	// ErrNotRunning: the session's supervisor does not run.
	ErrNotRunning = errors.New("the session is not running")
	// ErrWide: the workspace is the whole file system or a home folder; see StartOptions.AcceptWide.
	ErrWide = errors.New("workspace is very wide")
)
