package snapshot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"capsid/app/session"
)

// member has its snapshots as "name" or "name<session/snapshot".
func member(id, name string, age int, parent string, snaps ...string) Member {
	m := Member{Session: session.Session{ID: id, Name: name, Created: testTime.Add(time.Duration(age) * time.Hour), Parent: ref(parent)}}
	for i, s := range snaps {
		name, from, _ := strings.Cut(s, "<")
		snap := &Snapshot{Dir: "/s/" + id + "/snapshots/" + name, Name: name}
		snap.Manifest.Created = m.Session.Created.Add(time.Duration(i+1) * time.Minute)
		snap.Manifest.Parent = ref(from)
		m.Snapshots = append(m.Snapshots, snap)
	}
	return m
}

func ref(s string) *Ref {
	id, name, ok := strings.Cut(s, "/")
	if !ok {
		return nil
	}
	return &Ref{Session: id, Snapshot: name}
}

func draw(roots []*Node) string {
	var b strings.Builder
	for _, r := range roots {
		r.Walk(func(n *Node, depth int) {
			fmt.Fprintf(&b, "%s%s", strings.Repeat(" ", depth), n.Name())
			if n.Here {
				b.WriteString(" *")
			}
			b.WriteString("\n")
		})
	}
	return b.String()
}

func TestTree(t *testing.T) {
	for _, c := range []struct {
		name, here, want string
		members          []Member
	}{
		{name: "none"},
		{
			name: "snapshots of a booted session", here: "a", members: []Member{member("a", "A", 0, "", "one", "two")},
			want: "A *\n one\n two\n",
		},
		{
			name: "restored in place", here: "a", members: []Member{member("a", "A", 0, "a/one", "one", "two", "three<a/one")},
			want: "A\n one *\n  three\n two\n",
		},
		{
			name: "forks", here: "c", members: []Member{
				member("a", "A", 0, "", "one", "two"), member("c", "C", 2, "a/one", "x<a/one"), member("b", "B", 1, "a/one"), member("d", "D", 3, "c/x"), member("z", "Z", 4, ""),
			},
			want: "A\n one\n  B\n  C *\n   x\n    D\n two\nZ\n",
		},
		{
			name: "a fork restored in place to its own", here: "b", members: []Member{
				member("a", "A", 0, "", "one"), member("b", "B", 1, "b/y", "x<a/one", "y<b/x"),
			},
			want: "A\n one\n  B\n   x\n    y *\n",
		},
		{
			name: "the snapshot is gone, then the session", members: []Member{member("a", "A", 0, ""), member("b", "B", 1, "a/gone"), member("c", "C", 2, "gone/x")},
			want: "A\n B\nC\n",
		},
		{
			name: "the place is gone", here: "a", members: []Member{member("a", "A", 0, "a/gone", "two<a/gone")},
			want: "A *\n two\n",
		},
		{
			name: "sessions in a circle", members: []Member{member("a", "A", 0, "b/y", "x"), member("b", "B", 1, "a/x", "y")},
			want: "B\n y\n  A\n   x\n",
		},
		{
			name: "snapshots in a circle", here: "a", members: []Member{member("a", "A", 0, "a/x", "x<a/y", "y<a/x", "z<a/z")},
			want: "A\nx *\n y\nz\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			roots := Tree(c.members, c.here)
			got := draw(roots)
			if c.name == "sessions in a circle" || c.name == "snapshots in a circle" {
				// Which link is cut is not said, but each is there once.
				if strings.Count(got, "\n") != strings.Count(c.want, "\n") {
					t.Errorf("\n%s", got)
				}
				return
			}
			if got != c.want {
				t.Errorf("\n%swant\n%s", got, c.want)
			}
			if c.here != "" && Family(roots, c.here) != roots[0] {
				t.Error("the family is another")
			}
		})
	}
	if Family(Tree(nil, ""), "a") != nil {
		t.Error("a family of nobody")
	}
}

func TestChildren(t *testing.T) {
	members := []Member{
		member("a", "A", 0, "a/one", "one", "two<a/one", "three"), member("b", "B", 1, "a/one", "x<a/one"), member("c", "C", 2, "c/y", "y<b/x"), member("d", "D", 3, "c/y"),
	}
	for _, c := range []struct{ of, children, descendants string }{
		{"a/one", "[a/two session b]", "[a/two session d session c session b]"},
		{"a/two", "[]", "[]"},
		{"a/three", "[]", "[]"},
		{"b/x", "[session c]", "[session d session c]"},
		{"c/y", "[session d]", "[session d]"},
		{"a/", "[session b]", "[session d session c session b]"},
		{"c/", "[session d]", "[session d]"},
		{"d/", "[]", "[]"},
	} {
		if got := fmt.Sprint(Children(members, *ref(c.of))); got != c.children {
			t.Errorf("children of %s: %s, want %s", c.of, got, c.children)
		}
		if got := fmt.Sprint(Descendants(members, *ref(c.of))); got != c.descendants {
			t.Errorf("descendants of %s: %s, want %s", c.of, got, c.descendants)
		}
	}
	circle := []Member{member("a", "A", 0, "b/y", "x"), member("b", "B", 1, "a/x", "y")}
	if got := Descendants(circle, Ref{Session: "a", Snapshot: "x"}); !slices.Equal(got, []Ref{{Session: "a"}, {Session: "b"}}) && len(got) > 2 {
		t.Errorf("%v", got)
	}
}

func TestMembers(t *testing.T) {
	p := session.Paths{State: t.TempDir(), Runtime: t.TempDir() + "/run", Config: t.TempDir(), Data: t.TempDir()}
	store, err := session.OpenStore(p)
	must(t, err)
	for _, id := range []string{"0000000a", "0000000b"} {
		folder := Folder(p.Folder(id))
		take(t, folder, "s", func(m *Manifest) { m.Session.ID = id })
		sess := session.Session{ID: id, Name: id, Created: testTime}
		if id == "0000000b" {
			sess.Parent = &Ref{Session: "0000000a", Snapshot: "s"}
		}
		must(t, session.WriteJSON(p.Folder(id)+"/session.json", sess))
	}
	members, err := Members(store)
	must(t, err)
	if got := draw(Tree(members, "0000000b")); got != "0000000a\n s\n  0000000b *\n   s\n" {
		t.Errorf("\n%s", got)
	}
}
