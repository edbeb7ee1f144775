package policy

import (
	"fmt"
	"regexp"
	"strings"
)

// parseGlob compiles a pattern for a URL's path: * stands for any bytes but "/", ** for any bytes. Go's regexp matches in linear time, so no
// path can make it slow.
func parseGlob(s string) (*regexp.Regexp, error) {
	if !strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "**") {
		return nil, fmt.Errorf("path %q must begin with /", s)
	}
	var re strings.Builder
	re.WriteString(`(?s)\A`)
	for s != "" {
		i := strings.IndexByte(s, '*')
		if i < 0 {
			i = len(s)
		}
		re.WriteString(regexp.QuoteMeta(s[:i]))
		s = s[i:]
		switch {
		case strings.HasPrefix(s, "**"):
			re.WriteString(`.*`)
			s = s[2:]
		case s != "":
			re.WriteString(`[^/]*`)
			s = s[1:]
		}
	}
	re.WriteString(`\z`)
	return regexp.Compile(re.String())
}
