// Writes the table of facts about Kubernetes' API types from the Go sources of its interface packages: names, field
// order, protobuf numbers, merge behaviour, requiredness, defaults and enum values. Never carries descriptions.
package main

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
)

const module = "k8s.io/"

// Types with JSON forms of their own.
var special = map[string]string{
	"apimachinery/pkg/api/resource.Quantity":                                              "Q",
	"apimachinery/pkg/util/intstr.IntOrString":                                            "I",
	"apimachinery/pkg/apis/meta/v1.Time":                                                  "T",
	"apimachinery/pkg/apis/meta/v1.MicroTime":                                             "M",
	"apimachinery/pkg/apis/meta/v1.Duration":                                              "D",
	"apimachinery/pkg/apis/meta/v1.FieldsV1":                                              "A",
	"apimachinery/pkg/runtime.RawExtension":                                               "A",
	"apimachinery/pkg/runtime.Object":                                                     "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1.JSON":                              "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1beta1.JSON":                         "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrBool":             "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrArray":            "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1.JSONSchemaPropsOrStringArray":      "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1beta1.JSONSchemaPropsOrBool":        "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1beta1.JSONSchemaPropsOrArray":       "A",
	"apiextensions-apiserver/pkg/apis/apiextensions/v1beta1.JSONSchemaPropsOrStringArray": "A",
}

// Unions whose protobuf form is more than raw JSON bytes.
var unions = map[string]string{
	"JSONSchemaPropsOrBool": "bool", "JSONSchemaPropsOrArray": "array", "JSONSchemaPropsOrStringArray": "strings",
}

var builtin = map[string]string{
	"string": "s", "bool": "t", "int32": "i", "int64": "l", "int": "l", "uint8": "i", "uint32": "l", "uint64": "l",
	"float64": "d", "byte": "y", "interface{}": "A", "any": "A",
}

type decl struct {
	spec *ast.TypeSpec
	doc  string
	pkg  *pkg
	file *ast.File
}

type pkg struct {
	path    string // below k8s.io/
	name    string
	group   string
	types   map[string]*decl
	order   []string
	consts  map[string]string
	byType  map[string][]string
	imports map[*ast.File]map[string]string
}

var (
	root string
	pkgs = map[string]*pkg{}
)

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func load(path string) *pkg {
	if p, ok := pkgs[path]; ok {
		return p
	}
	p := &pkg{path: path, types: map[string]*decl{}, consts: map[string]string{}, byType: map[string][]string{},
		imports: map[*ast.File]map[string]string{}}
	pkgs[path] = p
	files, _ := filepath.Glob(filepath.Join(root, path, "*.go"))
	sort.Strings(files)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(filepath.Base(file), "zz_generated") ||
			strings.HasSuffix(file, "generated.pb.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			fail("%s: %v", file, err)
		}
		p.name = f.Name.Name
		p.imports[f] = map[string]string{}
		for _, spec := range f.Imports {
			target := strings.Trim(spec.Path.Value, `"`)
			name := filepath.Base(target)
			if spec.Name != nil {
				name = spec.Name.Name
			}
			p.imports[f][name] = target
		}
		for _, d := range f.Decls {
			gen, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range gen.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					doc := raw(gen.Doc)
					if s.Doc != nil {
						doc += raw(s.Doc)
					}
					p.types[s.Name.Name] = &decl{s, doc, p, f}
					p.order = append(p.order, s.Name.Name)
				case *ast.ValueSpec:
					if gen.Tok == token.CONST {
						p.constant(s)
					}
				}
			}
		}
	}
	return p
}

func raw(group *ast.CommentGroup) string {
	if group == nil {
		return ""
	}
	var out strings.Builder
	for _, c := range group.List {
		out.WriteString(strings.TrimPrefix(c.Text, "//"))
		out.WriteByte('\n')
	}
	return out.String()
}

func (p *pkg) constant(s *ast.ValueSpec) {
	for i, name := range s.Names {
		if i >= len(s.Values) {
			continue
		}
		value := s.Values[i]
		typ := ""
		if id, ok := s.Type.(*ast.Ident); ok {
			typ = id.Name
		}
		if call, ok := value.(*ast.CallExpr); ok && len(call.Args) == 1 {
			if id, ok := call.Fun.(*ast.Ident); ok {
				typ = id.Name
			}
			value = call.Args[0]
		}
		lit, ok := value.(*ast.BasicLit)
		if !ok {
			continue
		}
		text := lit.Value
		if lit.Kind == token.STRING {
			text = constant.StringVal(constant.MakeFromLiteral(lit.Value, lit.Kind, 0))
		}
		p.consts[name.Name] = text
		if name.Name == "GroupName" {
			p.group = text
		}
		if typ != "" && lit.Kind == token.STRING {
			p.byType[typ] = append(p.byType[typ], text)
		}
	}
}

func (p *pkg) openapi(name string) string {
	return "io.k8s." + strings.ReplaceAll(p.path, "/", ".") + "." + name
}

func (p *pkg) resolve(f *ast.File, e ast.Expr) (*pkg, string, bool) {
	switch e := e.(type) {
	case *ast.Ident:
		_, ok := p.types[e.Name]
		return p, e.Name, ok
	case *ast.SelectorExpr:
		target, ok := p.imports[f][e.X.(*ast.Ident).Name]
		if !ok || !strings.HasPrefix(target, module) {
			return nil, "", false
		}
		return load(strings.TrimPrefix(target, module)), e.Sel.Name, true
	}
	return nil, "", false
}

// The struct declaration behind a name, through aliases.
func (p *pkg) target(name string) *decl {
	d := p.types[name]
	if _, ok := d.spec.Type.(*ast.StructType); ok {
		return d
	}
	q, next, ok := p.resolve(d.file, d.spec.Type)
	if !ok {
		fail("%s.%s: no struct", p.path, name)
	}
	return q.target(next)
}

type shape struct {
	text    string // as in the table
	gotype  string // Go's name of the type in decoding errors
	named   bool   // gotype cannot be derived from text
	pointer bool
	strct   bool // a Go struct: never empty for omitempty
	docs    string
	enum    []string
	union   string
	wrapped bool // a list with a protobuf message around it
}

var enumTag = regexp.MustCompile(`(?m)^\s*\+enum\s*$`)

func (p *pkg) shape(f *ast.File, e ast.Expr, from *pkg) shape {
	switch e := e.(type) {
	case *ast.StarExpr:
		s := p.shape(f, e.X, from)
		s.pointer = true
		return s
	case *ast.ArrayType:
		item := p.shape(f, e.Elt, from)
		if item.text == "y" {
			return shape{text: "b", gotype: "[]uint8"}
		}
		star := ""
		if item.pointer {
			star = "*"
		}
		return shape{text: "[" + item.text, gotype: "[]" + star + item.gotype, named: item.named, wrapped: item.wrapped,
			union: item.union, enum: item.enum}
	case *ast.MapType:
		key := p.shape(f, e.Key, from)
		item := p.shape(f, e.Value, from)
		return shape{text: "{" + item.text, gotype: "map[" + key.gotype + "]" + item.gotype, named: item.named || key.named,
			wrapped: item.wrapped, union: item.union}
	case *ast.InterfaceType:
		return shape{text: "A", gotype: "interface {}"}
	case *ast.Ident:
		if s, ok := builtin[e.Name]; ok {
			if _, own := p.types[e.Name]; !own {
				return shape{text: s, gotype: e.Name}
			}
		}
	}
	q, name, ok := p.resolve(f, e)
	if !ok {
		fail("%s: cannot resolve %#v", p.path, e)
	}
	gotype := q.name + "." + name
	if s, ok := special[q.path+"."+name]; ok {
		return shape{text: s, gotype: gotype, strct: name != "Object", union: unions[name]}
	}
	d, ok := q.types[name]
	if !ok {
		fail("%s: no type %s.%s", p.path, q.path, name)
	}
	if _, ok := d.spec.Type.(*ast.StructType); ok {
		text := "#" + name
		if q != from {
			text = "#" + q.openapi(name)
		}
		return shape{text: text, gotype: gotype, strct: true, docs: d.doc}
	}
	s := q.shape(d.file, d.spec.Type, from)
	if d.spec.Assign.IsValid() {
		return s
	}
	if s.strct && strings.HasPrefix(s.text, "#") && q == from {
		return shape{text: "#" + name, gotype: gotype, strct: true, docs: d.doc}
	}
	s.gotype, s.named, s.docs = gotype, true, d.doc+s.docs
	if enumTag.MatchString(d.doc) {
		values := append([]string{}, q.byType[name]...)
		sort.Strings(values)
		s.enum = values
	}
	if strings.HasPrefix(s.text, "[") && strings.Contains(d.doc, "+protobuf.nullable=true") {
		s.wrapped = true
	}
	return s
}

type field struct {
	name, number, shape, flags string
	attrs                      []string
	discriminates              bool
}

func marker(doc, name string) []string {
	var out []string
	for _, line := range strings.Split(doc, "\n") {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "+"+name+"="); ok {
			out = append(out, strings.TrimSpace(rest))
		}
	}
	return out
}

func has(doc, name string) bool {
	for _, line := range strings.Split(doc, "\n") {
		if strings.TrimSpace(line) == "+"+name {
			return true
		}
	}
	return false
}

func first(lists ...[]string) string {
	for _, list := range lists {
		if len(list) > 0 {
			return list[0]
		}
	}
	return ""
}

func (p *pkg) fields(d *decl, outer string, home *pkg) []field {
	var out []field
	for _, f := range d.spec.Type.(*ast.StructType).Fields.List {
		tag := reflect.StructTag("")
		if f.Tag != nil {
			tag = reflect.StructTag(strings.Trim(f.Tag.Value, "`"))
		}
		jsonName, options, _ := strings.Cut(tag.Get("json"), ",")
		number := "0"
		if parts := strings.Split(tag.Get("protobuf"), ","); len(parts) > 1 {
			number = parts[1]
		}
		embedded := len(f.Names) == 0
		if jsonName == "" && (embedded || strings.Contains(options, "inline")) {
			q, name, ok := d.pkg.resolve(d.file, f.Type)
			if !ok {
				fail("%s.%s: embedded field", p.path, d.spec.Name.Name)
			}
			prefix := outer
			if number != "0" {
				prefix += number + "."
			}
			inner := p.fields(q.target(name), prefix, home)
			for i := range inner {
				one := &inner[i]
				if number == "0" {
					// Without a tag the embedded struct has no place in the message.
					one.number = "0"
				} else if len(one.attrs) > 0 && strings.HasPrefix(one.attrs[0], "in=") {
					one.attrs[0] = "in=" + name + "." + strings.TrimPrefix(one.attrs[0], "in=")
				} else {
					one.attrs = append([]string{"in=" + name}, one.attrs...)
				}
			}
			out = append(out, inner...)
			continue
		}
		if jsonName == "-" || jsonName == "" {
			continue
		}
		doc := raw(f.Doc)
		s := d.pkg.shape(d.file, f.Type, home)
		one := field{name: jsonName, number: outer + number, shape: s.text, discriminates: has(doc, "unionDiscriminator")}
		omitEmpty := strings.Contains(options, "omitempty")
		optional := has(doc, "optional") || has(doc, "k8s:optional") || omitEmpty || strings.Contains(options, "omitzero")
		if has(doc, "required") {
			optional = false
		}
		if !optional {
			one.flags += "r"
		}
		// A Go struct is never empty to omitempty: only omitzero leaves it out.
		if strings.Contains(options, "omitzero") || omitEmpty && (!s.strct || s.pointer) {
			one.flags += "o"
		}
		if s.pointer {
			one.flags += "p"
		}
		structType := first(marker(doc, "structType"), marker(doc, "mapType"))
		if structType == "" && strings.HasPrefix(s.text, "{") {
			structType = first(marker(s.docs, "structType"), marker(s.docs, "mapType"))
		}
		if structType == "atomic" {
			one.flags += "x"
		}
		if structType == "granular" {
			one.flags += "g"
		}
		if one.flags == "" {
			one.flags = "-"
		}
		listType := first(marker(doc, "listType"), marker(s.docs, "listType"))
		if strings.HasPrefix(s.text, "[") && listType != "" && listType != "atomic" {
			keys := marker(doc, "listMapKey")
			one.attrs = append(one.attrs, strings.TrimSuffix("list="+listType+":"+strings.Join(keys, ","), ":"))
		}
		if p.path == "apimachinery/pkg/apis/meta/v1" && listType == "" && s.wrapped {
			one.attrs = append(one.attrs, "list=none")
		}
		if strategy := tag.Get("patchStrategy"); strategy != "" {
			one.attrs = append(one.attrs, "patch="+strategy)
		}
		if key := tag.Get("patchMergeKey"); key != "" {
			one.attrs = append(one.attrs, "key="+key)
		}
		if len(s.enum) > 0 {
			one.attrs = append(one.attrs, "enum="+strings.ReplaceAll(strings.Join(s.enum, "|"), " ", "%20"))
		}
		if s.wrapped {
			one.attrs = append(one.attrs, "wrapped=1")
		}
		if s.union != "" {
			one.attrs = append(one.attrs, "union="+s.union)
		}
		if s.named {
			one.attrs = append(one.attrs, "go="+strings.ReplaceAll(s.gotype, " ", ""))
		}
		if def := first(marker(doc, "default"), marker(s.docs, "default")); def != "" {
			one.attrs = append(one.attrs, "def="+d.pkg.constantDefault(d.file, def))
		}
		out = append(out, one)
	}
	return out
}

func (p *pkg) constantDefault(f *ast.File, text string) string {
	if ref, ok := strings.CutPrefix(text, "ref("); ok {
		ref = strings.TrimSuffix(ref, ")")
		q, name := p, ref
		if i := strings.LastIndex(ref, "."); i >= 0 {
			target, ok := p.imports[f][ref[:i]]
			if !ok {
				target = ref[:i]
			}
			q, name = load(strings.TrimPrefix(target, module)), ref[i+1:]
		}
		value, ok := q.consts[name]
		if !ok {
			fail("%s: default %s", p.path, text)
		}
		if _, err := fmt.Sscanf(value, "%d", new(int)); err == nil {
			return value
		}
		encoded, _ := json.Marshal(value)
		return string(encoded)
	}
	var value any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		fail("%s: default %s: %v", p.path, text, err)
	}
	encoded, _ := json.Marshal(value)
	return string(encoded)
}

// Types of meta/v1 that every group knows as its own.
var everywhere = map[string]bool{"DeleteOptions": true, "WatchEvent": true}

// Types of meta/v1 that clients ask for in the group meta.k8s.io.
var ownGroup = map[string]bool{"Table": true, "PartialObjectMetadata": true, "PartialObjectMetadataList": true}

func main() {
	if len(os.Args) < 2 {
		fail("usage: facts <.../src/k8s.io> [addendum...] > facts.txt")
	}
	root = os.Args[1]
	var paths []string
	dirs, _ := filepath.Glob(filepath.Join(root, "api/*/v*"))
	for _, dir := range dirs {
		path, _ := filepath.Rel(root, dir)
		if strings.HasPrefix(path, "api/testdata") {
			continue
		}
		paths = append(paths, path)
	}
	paths = append(paths, "apiextensions-apiserver/pkg/apis/apiextensions/v1", "apiextensions-apiserver/pkg/apis/apiextensions/v1beta1",
		"apimachinery/pkg/apis/meta/v1", "apimachinery/pkg/version")
	sort.Strings(paths)
	meta := load("apimachinery/pkg/apis/meta/v1")
	var groupVersions []string
	for _, path := range paths {
		p := load(path)
		if p != meta && p.path != "apimachinery/pkg/version" && !strings.Contains(p.path, "apidiscovery") {
			if p.group == "" && strings.Contains(p.path, "core/v1") {
				continue
			}
			if parent := load(filepath.Dir(p.path)); p.group == "" {
				p.group = parent.group
			}
			groupVersions = append(groupVersions, p.group+"/"+filepath.Base(p.path))
		}
	}
	groupVersions = append(groupVersions, "apiregistration.k8s.io/v1", "apiregistration.k8s.io/v1beta1")
	sort.Strings(groupVersions)
	for _, path := range paths {
		p := load(path)
		sort.Strings(p.order)
		for _, name := range p.order {
			d := p.types[name]
			if !ast.IsExported(name) || d.spec.Assign.IsValid() {
				continue
			}
			if _, ok := d.spec.Type.(*ast.SelectorExpr); ok && p != meta {
				if q, _, ok := p.resolve(d.file, d.spec.Type); !ok || q.path == "apimachinery/pkg/util/intstr" {
					continue
				}
				d = p.target(name)
			}
			if _, ok := d.spec.Type.(*ast.StructType); !ok {
				continue
			}
			if _, ok := special[p.path+"."+name]; ok {
				continue
			}
			fields := p.fields(d, "", p)
			if len(fields) == 0 && !strings.Contains(p.path, "apiextensions") && !emptyButReal(d) {
				continue
			}
			line := p.openapi(name)
			version := filepath.Base(p.path)
			if hasTypeMeta(d) && name != "TypeMeta" {
				line += " gvk="
				if p != meta {
					line += p.group + "/" + version + "/" + name
				} else if line += "/v1/" + name; ownGroup[name] {
					line += "," + p.group + "/" + version + "/" + name
				}
			} else if p == meta && name == "WatchEvent" {
				line += " gvk=/v1/" + name
			}
			if p == meta && everywhere[name] {
				for _, gv := range groupVersions {
					line += "," + gv + "/" + name
				}
			}
			if st := first(marker(d.doc, "structType"), marker(d.doc, "mapType")); st == "atomic" {
				line += " atomic"
			}
			if has(d.doc, "union") {
				discriminator, members := "", []string{}
				for _, f := range fields {
					if f.discriminates {
						discriminator = f.name
					} else {
						members = append(members, f.name)
					}
				}
				line += " oneof=" + discriminator + ":" + strings.Join(members, ",")
			}
			fmt.Println(line)
			for _, f := range fields {
				parts := append([]string{"", f.name, f.number, f.shape, f.flags}, f.attrs...)
				fmt.Println(strings.TrimSuffix(strings.Join(parts, " "), " "))
			}
		}
	}
	for _, addendum := range os.Args[2:] {
		text, err := os.ReadFile(addendum)
		if err != nil {
			fail("%v", err)
		}
		os.Stdout.Write(text)
	}
}

func emptyButReal(d *decl) bool {
	return len(d.spec.Type.(*ast.StructType).Fields.List) == 0
}

func hasTypeMeta(d *decl) bool {
	for _, f := range d.spec.Type.(*ast.StructType).Fields.List {
		text := ""
		switch t := f.Type.(type) {
		case *ast.Ident:
			text = t.Name
		case *ast.SelectorExpr:
			text = t.Sel.Name
		}
		if len(f.Names) == 0 && text == "TypeMeta" {
			return true
		}
	}
	return false
}
